"""`codelm complete` on a tiny model."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codelm.cli import app
from codelm.errors import UserError
from codelm.inference.engine import Request, generate, load_engine

PROMPT = "def add(a, b):\n"


def run(*arguments: str, stdin: str = "") -> str:
    result = CliRunner().invoke(app, ["complete", *arguments], input=stdin, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_it_prints_what_the_engine_generates(llama_model: Path) -> None:
    engine = load_engine("transformers", llama_model)
    greedy, sampled = generate(
        engine, [Request(PROMPT, 12, temperature=0), Request(PROMPT, 12, temperature=0.9, seed=3, stop=("q",))]
    )
    model = ("--model", str(llama_model), "--engine", "transformers")
    assert run(PROMPT, *model, "--max-tokens", "12") == greedy.text + "\n"
    assert run("-", *model, "--max-tokens", "12", stdin=PROMPT) == greedy.text + "\n"
    sampling = ("--temperature", "0.9", "--seed", "3", "--stop", "q", "--max-tokens", "12")
    assert run(PROMPT, *model, *sampling) == sampled.text + "\n"
    middle = engine.codec.fill_in_the_middle(PROMPT, "x")
    (filled,) = generate(engine, [Request(middle, 256 - len(middle), temperature=0)])
    assert run(PROMPT, *model, "--suffix", "x", "--max-tokens", "999") == filled.text + "\n"


def test_mistakes_are_told(llama_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config.json and tokenizer.json"):
        run("x", "--model", str(tmp_path))
    with pytest.raises(UserError, match="more than the model's 256 positions"):
        run("é" * 300, "--model", str(llama_model), "--engine", "transformers")


def test_a_model_that_is_exported_needs_no_torch() -> None:
    script = "import sys, codelm.inference.openvino_engine; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
