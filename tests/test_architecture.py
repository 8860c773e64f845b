"""The import directions of the design, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = {"config", "records", "run_dir", "object_store", "errors", "console"}
STAGES = {
    "corpus",
    "tokenization",
    "modeling",
    "training",
    "evaluation",
    "sandbox",
    "inference",
    "finetuning",
    "tuning",
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(*packages: str) -> list[Path]:
    files = sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))
    assert files
    return files


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def area(path: Path) -> str:
    """`codelm/corpus/filters.py -> corpus`, `codelm/errors.py -> errors`."""
    return path.relative_to(ROOT / "codelm").with_suffix("").parts[0]


def reach(path: Path) -> set[str]:
    """The areas of codelm that a module imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("codelm.") and name.count(".") > 0}


@pytest.mark.parametrize("path", modules("codelm"), ids=str)
def test_only_on_ray_imports_ray(path: Path) -> None:
    if area(path) != "on_ray":
        assert not [name for name in imports(path) if is_in(name, "ray")]


@pytest.mark.parametrize("path", modules("codelm", "serve", "ray_jobs"), ids=str)
def test_only_tracking_imports_mlflow(path: Path) -> None:
    if path != ROOT / "codelm" / "tracking.py":
        assert not [name for name in imports(path) if is_in(name, "mlflow")]


@pytest.mark.parametrize("path", modules("codelm"), ids=str)
def test_codelm_never_imports_jobs_or_serve(path: Path) -> None:
    assert not [name for name in imports(path) if is_in(name, "ray_jobs") or is_in(name, "serve")]


def test_the_core_knows_nothing_else_of_codelm() -> None:
    for path in modules("codelm"):
        if area(path) in CORE:
            assert reach(path) <= CORE | {"__version__"}, path


@pytest.mark.parametrize("path", modules(*(f"codelm/{stage}" for stage in STAGES)), ids=str)
def test_stages_know_neither_the_shell_nor_the_tracker(path: Path) -> None:
    assert reach(path) <= CORE | STAGES


@pytest.mark.parametrize("path", modules("ray_jobs"), ids=str)
def test_jobs_call_the_shell_only(path: Path) -> None:
    assert reach(path) <= {"on_ray"}


@pytest.mark.parametrize("path", modules("serve"), ids=str)
def test_the_service_uses_inference_and_the_registry_only(path: Path) -> None:
    assert reach(path) <= CORE | {"__version__", "inference", "tracking"}


def loaded(name: str, seen: set[str]) -> set[str]:
    """What importing a module of codelm imports at once: its own imports that stand in no function, and theirs."""
    path = ROOT / f"{name.replace('.', '/')}.py"
    path = path if path.exists() else path.with_suffix("") / "__init__.py"
    if name in seen or not path.exists():
        return seen
    seen.add(name)
    for node in ast.parse(path.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        for found in names:
            if is_in(found, "codelm"):
                loaded(found, seen)
            else:
                seen.add(found)
    return seen


@pytest.mark.parametrize("stage", ["pretrain", "examples", "finetune", "sweep"])
def test_a_config_is_refused_without_waiting_for_torch(stage: str) -> None:
    """Which takes seconds to load; the stages load it when they run."""
    slow = ("torch", "transformers", "deepspeed", "peft", "mlflow", "optuna")
    assert not [name for name in loaded(f"codelm.on_ray.{stage}", set()) for library in slow if is_in(name, library)]
