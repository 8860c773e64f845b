"""The command line: help to learn from, and every mistake a sentence with exit status 2 before any work."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from codelm import cli, config
from codelm.run_dir import DIRECTORIES, Manifest, RunDir


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "a.py").write_text("def f(x):\n    return x + 1\n")
    return directory


@pytest.fixture
def config_file(tmp_path: Path, source: Path) -> Path:
    path = tmp_path / "experiment.yaml"
    tree = {"name": "t", "run_dir": str(tmp_path / "run"), "corpus": {"sources": [str(source)]}}
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture
def codelm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run `codelm` in this process; gives the exit status and what it printed on both outputs."""

    def run(*arguments: Any) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["codelm", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capsys.readouterr()
        return int(exit_.value.code or 0), printed.out + printed.err

    return run


def untouched(tmp_path: Path) -> bool:
    """Whether nothing but the probe's directory was written."""
    run = tmp_path / "run"
    return not run.exists() or not [path for path in run.rglob("*") if path.is_file()]


def test_help_names_every_command(codelm: Callable[..., tuple[int, str]]) -> None:
    status, text = codelm("--help")
    assert status == 0
    on_clusters = ("submit", "jobs", "logs", "stop", "plan")
    for command in ("pipeline", "serve", "judge", "compare", "validate", "show-config", *on_clusters, *DIRECTORIES):
        assert command in text


@pytest.mark.parametrize("command", ["pipeline", "serve", "validate", "show-config", *DIRECTORIES])
def test_each_command_has_help(codelm: Callable[..., tuple[int, str]], command: str) -> None:
    status, text = codelm(command, "--help")
    assert status == 0
    assert "CONFIG" in text
    assert "--set" in text


def test_every_stage_has_a_job() -> None:
    jobs = {path.stem for path in (Path(__file__).parent.parent / "ray_jobs").glob("*.py")}
    assert jobs == {"__init__", "pipeline", *DIRECTORIES}


def test_show_config_prints_what_load_reads(codelm: Callable[..., tuple[int, str]], config_file: Path) -> None:
    status, text = codelm("show-config", config_file, "--set", "training.steps=500")
    assert status == 0
    assert config.parse(yaml.safe_load(text), "shown") == config.load(config_file, ["training.steps=500"])


def test_validation_loss_of_what_is_not_there(codelm: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    status, text = codelm("validation-loss", "--model", f"{tmp_path}/none", "--data", tmp_path)
    assert (status, f"--model: there is no directory '{tmp_path}/none'" in " ".join(text.split())) == (2, True)


def test_valid_config(codelm: Callable[..., tuple[int, str]], config_file: Path, tmp_path: Path) -> None:
    status, text = codelm("validate", config_file)
    assert (status, "valid" in text) == (0, True)
    assert untouched(tmp_path)


def test_a_sweep_is_checked_as_well(codelm: Callable[..., tuple[int, str]], config_file: Path) -> None:
    with config_file.open("a") as file:
        file.write("\nsweep: {space: {training.lr: {choice: [0.1, 0.2]}}}\n")
    status, text = codelm("validate", config_file)
    assert (status, "training.lr is no key of the config; did you mean training.learning_rate?" in text) == (2, True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learnign_rate=1", "training.learnign_rate: unknown key; did you mean training.learning_rate?"),
        ("training.steps=many", "training.steps: 'many' is wrong"),
        ("training.workers=3", "is not divisible by workers x micro_batch_size"),
        ("data.sequence_length=5000", "is longer than model.max_positions"),
        ("tokenizer.vocab_size=100", "is below 256 bytes"),
        ("cluster.address=127.0.0.1:1", "cluster.address '127.0.0.1:1' does not answer"),
        ("cluster.address=nonsense", "cluster.address 'nonsense' does not answer"),
        ("training.steps", "is not of the form key=value"),
    ],
)
@pytest.mark.parametrize("command", ["pipeline", "validate"])
def test_wrong_values(
    codelm: Callable[..., tuple[int, str]], config_file: Path, tmp_path: Path, command: str, override: str, message: str
) -> None:
    status, text = codelm(command, config_file, "--set", override)
    assert status == 2
    assert message in text
    assert "Traceback" not in text
    assert untouched(tmp_path)


def test_missing_config_file(codelm: Callable[..., tuple[int, str]]) -> None:
    status, text = codelm("pipeline", "nowhere.yaml")
    assert (status, "nowhere.yaml" in text) == (2, True)


def test_missing_source(codelm: Callable[..., tuple[int, str]], config_file: Path, tmp_path: Path) -> None:
    status, text = codelm("pipeline", config_file, "--set", f"corpus.sources=[{tmp_path}/nothing]")
    assert status == 2
    assert f"{tmp_path}/nothing" in text
    assert untouched(tmp_path)


def test_empty_source(codelm: Callable[..., tuple[int, str]], config_file: Path, tmp_path: Path, source: Path) -> None:
    (source / "a.py").unlink()
    status, text = codelm("pipeline", config_file)
    assert status == 2
    assert str(source) in text
    assert untouched(tmp_path)


def test_source_without_a_usable_file(
    codelm: Callable[..., tuple[int, str]], config_file: Path, tmp_path: Path, source: Path
) -> None:
    (source / "a.py").rename(source / "a.txt")
    status, text = codelm("pipeline", config_file)
    assert status == 2
    assert str(source) in text
    assert "*.py" in text
    assert untouched(tmp_path)


def test_unwritable_run_dir(codelm: Callable[..., tuple[int, str]], config_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    status, text = codelm("pipeline", config_file, "--set", f"run_dir={tmp_path}/file/run")
    assert status == 2
    assert f"{tmp_path}/file/run" in text
    assert "cannot be written to" in text


def test_run_dir_of_another_config(codelm: Callable[..., tuple[int, str]], config_file: Path, tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path / "run"))
    run_dir.workspace("tokenizer")
    run_dir.publish("tokenizer", Manifest("tokenizer", {"tokenizer": {"vocab_size": 999}}, {"corpus": "c"}))
    status, text = codelm("pipeline", config_file)
    assert status == 2
    assert "tokenizer.vocab_size: 999 there, 32768 asked for" in text
    assert "--redo tokenizer" in text
    assert run_dir.manifest("tokenizer") is not None


def test_stage_before_its_input(codelm: Callable[..., tuple[int, str]], config_file: Path) -> None:
    status, text = codelm("export", config_file)
    assert status == 2
    assert "codelm pretrain" in text


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("command", ["pipeline", "validate"])
def test_port_in_use(
    codelm: Callable[..., tuple[int, str]], config_file: Path, tmp_path: Path, busy_port: int, command: str
) -> None:
    status, text = codelm(command, config_file, "--set", f"serving.port={busy_port}")
    assert status == 2
    assert str(busy_port) in text
    assert "serving.port" in text
    assert untouched(tmp_path)


def test_serving_before_there_is_a_model(codelm: Callable[..., tuple[int, str]], config_file: Path) -> None:
    status, text = codelm("serve", config_file)
    assert status == 2
    assert "no model in" in text
    assert "codelm export" in text


def test_unknown_stage_to_redo(codelm: Callable[..., tuple[int, str]], config_file: Path) -> None:
    status, text = codelm("pipeline", config_file, "--redo", "corpsu")
    assert (status, "'corpsu' is not a stage" in text) == (2, True)


def test_the_program_itself_exits_with_2(config_file: Path) -> None:
    """Once through the installed program rather than in this process."""
    program = Path(sys.executable).parent / "codelm"
    done = subprocess.run(
        [program, "validate", config_file, "--set", "trainig.steps=1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "trainig: unknown key; did you mean training?" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["judge", "nowhere.jsonl"], "no samples file 'nowhere.jsonl'"),
        (["judge", "nowhere.jsonl", "--k", "1,x"], "--k: '1,x' is not a list of numbers such as 1,10,100"),
        (["compare", "nowhere"], "'nowhere' is neither a results file nor a run directory"),
        (["compare", "a", "b", "c"], "3 runs were given; compare one or two"),
        (["compare", "nowhere", "--k", "0"], "--k: 0 is below 1"),
    ],
)
def test_mistakes_about_samples_and_results(
    arguments: list[str], message: str, codelm: Callable[..., tuple[int, str]]
) -> None:
    status, text = codelm(*arguments)
    assert status == 2
    assert message in text
