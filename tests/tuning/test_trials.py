import math
from pathlib import Path

from codelm.tuning.trials import Trial, best_of, draw, ranked, table, totals

KEY = "finetuning.training.learning_rate"
TRIALS = [
    Trial("a", {KEY: 1e-4}, "finished", 9, 9, ((3, 2.0), (9, 1.5)), 1.5),
    Trial("b", {KEY: 1e-5}, "stopped", 3, 9, ((3, 1.0),), 1.0),
    Trial("c", {KEY: 1e-3}, "failed", 2, 9, (), None, "the training loss is nan\nmore"),
    Trial("d", {KEY: 2e-4}, "finished", 9, 9, ((3, 2.1), (9, 1.4)), 1.4),
    Trial("e", {KEY: 3e-4}, "finished", 9, 9, (), math.inf),
]


def test_the_best_trial_is_one_that_ran_to_its_end() -> None:
    best = best_of(TRIALS, "validation_loss")
    assert best is not None
    assert best.name == "d"
    best = best_of(TRIALS[:4], "pass@1")  # of shares of problems solved, the highest
    assert best is not None
    assert best.name == "a"
    assert best_of(TRIALS[1:3], "validation_loss") is None


def test_of_equal_trials_the_one_with_the_lowest_loss_is_the_best() -> None:
    trials = [
        Trial(name, {KEY: 1e-4}, "finished", 9, 9, ((9, loss),), 0.0)
        for name, loss in (("a", 2.0), ("b", 1.0), ("c", 3.0))
    ]
    best = best_of(trials, "pass@1")
    assert best is not None
    assert best.name == "b"
    assert [trial.name for trial in ranked(trials, "pass@1")] == ["b", "a", "c"]


def test_the_order_of_the_table() -> None:
    assert [trial.name for trial in ranked(TRIALS, "validation_loss")] == ["b", "d", "a", "e", "c"]
    lines = table(TRIALS, "validation_loss").splitlines()
    assert "learning_rate" in lines[0]
    assert len({len(line) for line in lines}) == 1
    assert "3 of 9" in lines[2]
    assert "failed: the training loss is nan" in lines[-1]


def test_totals_and_the_share_of_steps() -> None:
    done = totals(TRIALS)
    assert (done.steps, done.full_steps, done.states) == (32, 45, {"failed": 1, "finished": 3, "stopped": 1})
    assert done.share == 32 / 45
    assert totals([]).share == 0


def test_the_picture_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        draw(TRIALS, "validation_loss", {KEY: True}, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
