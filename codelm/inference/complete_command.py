"""`codelm complete`: one completion on the terminal, as it is generated."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from codelm.config.engines import Precision
from codelm.errors import UserError
from codelm.inference.engine import Options, Request, load_engine, stream


def complete(
    model: Path,
    request: Request,
    suffix: str | None = None,
    engine: str = "auto",
    precision: Precision = "auto",
) -> Iterator[str]:
    """The text of one completion, piece by piece.

    Args:
        model: a directory in Hugging Face format, or a run directory with one.
        request: its prompt is what comes before, as text; fewer tokens are generated where there is no room for more.
        suffix: what comes after, to fill in the middle; None for nothing.
        engine: a name of `codelm.inference.engine.ENGINES`, or auto.
        precision: of the engine.

    Raises:
        UserError: there is no model, it cannot fill in the middle, or the prompt is too long for it.
    """
    directory = _directory(model)
    loaded = load_engine(engine, directory, options=Options(max_batch=1, precision=precision))
    codec, prompt = loaded.codec, request.prompt
    assert isinstance(prompt, str)
    try:
        ids = codec.opening_ids(prompt) if suffix is None else codec.fill_in_the_middle(prompt, suffix)
        room = max(loaded.max_positions - len(ids), 1)
        for delta in stream(loaded, replace(request, prompt=ids, max_new_tokens=min(request.max_new_tokens, room))):
            yield delta.text
    except ValueError as error:
        raise UserError(f"{error}") from error


def _directory(model: Path) -> Path:
    """The model's own directory."""
    for directory in (model, model / "model"):
        if (directory / "config.json").is_file() and (directory / "tokenizer.json").is_file():
            return directory
    raise UserError(
        f"--model {model}: no config.json and tokenizer.json there; give a directory in Hugging Face format, such as "
        "the `model` of a run"
    )
