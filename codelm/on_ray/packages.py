"""Whether the machine that runs a job has the packages that the uploaded project names."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

from codelm.errors import UserError


def check_packages(project: Path) -> None:
    """Compare what is installed with what a `pyproject.toml` depends on; nothing is asked where there is none.

    Raises:
        UserError: a package is missing or of another version; all of them are named.
    """
    if not project.exists():
        return
    wrong = []
    for text in tomllib.loads(project.read_text())["project"]["dependencies"]:
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate():
            continue
        try:
            has = version(need.name)
        except PackageNotFoundError:
            wrong.append(f"{need.name} is missing ({need.specifier})")
            continue
        if not need.specifier.contains(has, prereleases=True):
            wrong.append(f"{need.name} {has} is not {need.specifier}")
    if wrong:
        raise UserError(
            f"the machine that runs this job has not the packages that codelm needs: {'; '.join(wrong)}. Make the "
            "cluster's machines from cluster/Dockerfile, or install within cluster/constraints.txt there"
        )
