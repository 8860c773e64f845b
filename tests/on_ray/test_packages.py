"""The packages of the machine that runs a job, against what the uploaded project names."""

from pathlib import Path

import pytest

from codelm.errors import UserError
from codelm.on_ray.packages import check_packages


def test_packages_of_the_machine_that_runs_a_job(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    check_packages(project)
    project.write_text('[project]\ndependencies = ["numpy>=1", "no-such<2; python_version < \'3\'"]\n')
    check_packages(project)
    project.write_text('[project]\ndependencies = ["numpy<1", "no-such-package>=3"]\n')
    with pytest.raises(UserError, match=r"numpy \S+ is not <1; no-such-package is missing \(>=3\). Make the cluster's"):
        check_packages(project)
