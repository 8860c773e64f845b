"""The listing beside Ray's own package of the same directory."""

import zipfile
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import create_package

from codelm.errors import UserError
from codelm.submission import upload
from codelm.submission.upload import planned_upload

ROOT = Path(__file__).parent.parent.parent


def tree(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def packed_by_ray(root: Path, target: Path) -> set[str]:
    create_package(str(root), target, include_gitignore=True)
    with zipfile.ZipFile(target) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_as_ray_packs_it(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "project",
        _dot_gitignore="*.log\nruns\n/only_top\n!keep.log\ndeep/*.bin\n",
        _dot_rayignore="secret*\n",
        a_dot_log="x",
        keep_dot_log="x",
        runs__r__f="x",
        only_top__f="x",
        b__only_top__f="x",
        b___dot_gitignore="*.csv",
        b__t_dot_csv="x",
        t_dot_csv="x",
        b__secret_dot_txt="x",
        deep__x_dot_bin="x",
        deep__y_dot_txt="longer",
    )
    ours = planned_upload(root)
    assert set(ours.files) == packed_by_ray(root, tmp_path / "p.zip")
    assert "b/only_top/f" in ours.files
    assert "b/t.csv" not in ours.files
    assert ours.size == sum(path.stat().st_size for path in (root / name for name in ours.files))
    ours.check_has("CONFIG", "t.csv")
    ours.check_has("corpus.sources", "deep")
    with pytest.raises(UserError, match=r"corpus.sources: runs exists here but .gitignore or .rayignore keeps it out"):
        ours.check_has("corpus.sources", "runs")


def test_this_repository_sends_what_jobs_need_and_no_more() -> None:
    ours = planned_upload(ROOT)
    tops = {name.partition("/")[0] for name in ours.files}
    assert {"codelm", "ray_jobs", "serve", "pyproject.toml"} <= tops
    assert not tops & {".git", ".venv", ".mypy_cache", ".hypothesis", "runs", "tests", "docs"}
    assert not [name for name in ours.files if "__pycache__" in name or "node_modules" in name]
    assert ours.size < 10 * 2**20


def test_over_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path / "project", data__big="x" * 3000, small="x")
    monkeypatch.setattr(upload, "LIMIT_BYTES", 2048)
    with pytest.raises(UserError, match=r"Ray takes .*: data 0.0 MB, small.*\.rayignore"):
        planned_upload(root).check_size()
