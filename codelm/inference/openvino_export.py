"""Hugging Face models as OpenVINO models with attention that a paged cache can serve.

The model is traced by OpenVINO's PyTorch front end with plain `scaled_dot_product_attention` and keys and values of
the past as inputs, which become states: the shape that OpenVINO's `SDPAToPagedAttention` transformation takes.
Exports are kept beside the model, named by a hash of its files, of the precision and of the versions.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

FORMAT = 1
"""Of the export; another one makes models be exported again."""
WEIGHTS = ("*.safetensors", "*.bin", "config.json")


def exported(model_dir: Path, int8: bool) -> Path:
    """The directory of a model's export, made now if there is none: `model.xml`, `model.bin` and `model.json`.

    Args:
        model_dir: in Hugging Face format.
        int8: keep the matrices as 8-bit integers with a scale for each output.
    """
    store = _store(model_dir)
    final = store / _key(model_dir, int8)
    if not final.is_dir():
        with FileLock(store / "lock"):
            if not final.is_dir():
                with _work_dir(store) as work:
                    _export(model_dir, work, int8)
                    work.rename(final)
    return final


def _store(model_dir: Path) -> Path:
    """Beside the model; in the user's cache where that cannot be written."""
    beside = model_dir.resolve().with_name(f"{model_dir.resolve().name}.openvino")
    if os.access(beside if beside.is_dir() else beside.parent, os.W_OK):
        store = beside
    else:
        store = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "codelm" / "openvino"
    store.mkdir(parents=True, exist_ok=True)
    return store


def _key(model_dir: Path, int8: bool) -> str:
    digest = hashlib.sha256()
    made_with = [version(name) for name in ("openvino", "torch", "transformers")]
    digest.update(json.dumps([FORMAT, int8, made_with]).encode())
    for path in sorted(path for pattern in WEIGHTS for path in model_dir.glob(pattern)):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]


@contextmanager
def _work_dir(store: Path) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix="work-", dir=store))
    work.chmod(0o755)  # mkdtemp's directories are nobody else's, and models are shared
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _export(model_dir: Path, target: Path, int8: bool) -> None:
    # Here, not above: an export that exists needs neither torch nor transformers.
    import openvino

    from codelm.inference.openvino_tracing import load, traced
    from codelm.inference.openvino_weights import compress

    model = load(model_dir)
    graph = traced(model)
    if int8:
        compress(graph)
    openvino.save_model(graph, target / "model.xml", compress_to_fp16=False)
    (target / "model.json").write_text(json.dumps({"windows": windows(model.config)}) + "\n")


def windows(config: Any) -> list[int]:
    """How many tokens each layer's attention sees; 0 for all."""
    kinds = getattr(config, "attention_layers", None) or ["global"] * config.num_hidden_layers
    return [config.window_size if kind == "local" else 0 for kind in kinds]
