"""Where the served model comes from: a directory, a run, a name on the hub, or MLflow's registry."""

from dataclasses import dataclass
from pathlib import Path

from codelm.errors import UserError
from codelm.run_dir import RunDir

REGISTRY = "models:/"
NEEDED = ("config.json", "tokenizer.json")
"""Files that a model's directory has."""


@dataclass(frozen=True)
class Found:
    """A model on this machine's disk.

    Attributes:
        directory: in Hugging Face format, with a `tokenizer.json`.
        version: of the registry or the hub, or when the directory was made; two versions never have the same.
    """

    directory: Path
    version: str


def find_model(source: str, tracking_uri: str | None = None) -> Found:
    """Bring a model to this machine.

    Args:
        source: a model's directory; a run directory, local or on an object store; `models:/NAME@ALIAS` or
            `models:/NAME/VERSION` of MLflow's registry; or a name on the Hugging Face hub.
        tracking_uri: MLflow's address, for its registry; None takes MLFLOW_TRACKING_URI.

    Raises:
        UserError: there is no such model.
    """
    if source.startswith(REGISTRY):
        from codelm.tracking import download_model

        version, directory = download_model(source, tracking_uri)
        return Found(_with_files(directory), version)
    if "://" in source:
        run_dir, name, version = _published(source)
        return Found(run_dir.local_copy(name), version)
    if Path(source).is_dir():
        directory = _local(Path(source))
        return Found(directory, _date(directory))
    return _from_hub(source)


def _from_hub(source: str) -> Found:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt"]
    try:
        directory = Path(snapshot_download(source, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{source!r} is no directory, and the hub gives no such model: {reason}") from error
    return Found(_with_files(directory), directory.name)  # a snapshot's directory is named by its commit


def _with_files(directory: Path) -> Path:
    """The directory of a model in what was downloaded: itself, or one below it."""
    for path in sorted(directory.rglob("config.json"), key=lambda path: len(path.parts)):
        if all((path.parent / name).is_file() for name in NEEDED):
            return path.parent
    raise UserError(f"no model in {directory}: there is no directory with {' and '.join(NEEDED)}")


def version_of(source: str, tracking_uri: str | None = None) -> str | None:
    """The version that `find_model` would give now, without fetching it; None where that is not known.

    Raises:
        UserError: there is no such model.
    """
    if source.startswith(REGISTRY):
        from codelm.tracking import registered_version

        return registered_version(source, tracking_uri)
    if "://" in source:
        return _published(source)[2]
    return _date(_local(Path(source))) if Path(source).is_dir() else None


def _published(source: str) -> tuple[RunDir, str, str]:
    """The run directory on an object store, the model's directory in it, and its version, by either's address."""
    parent, _, last = source.rstrip("/").rpartition("/")
    for run_dir, directory in ((RunDir(parent), last), (RunDir(source), "model")):
        manifest = run_dir.manifest(directory)
        if manifest is not None:
            return run_dir, directory, manifest.content
    raise UserError(f"no model in {source}: it is neither a run directory with a model, nor that model's directory")


def _local(directory: Path) -> Path:
    """The directory that holds the model: the one given, or `model` in it, where it is a run directory."""
    if not (directory / NEEDED[0]).is_file() and (directory / "model" / NEEDED[0]).is_file():
        directory = directory / "model"
    for name in NEEDED:
        if not (directory / name).is_file():
            raise UserError(f"no {name} in {directory}; name a model's directory, or a run directory with a model")
    return directory


def _date(directory: Path) -> str:
    return str((directory / NEEDED[0]).stat().st_mtime_ns)
