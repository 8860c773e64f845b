"""What a person sees: lines where there is no terminal, and no interpretation of what they contain."""

import pytest

from codelm import console


def test_a_line_has_stage_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("corpus", "kept 3 [of] 4 files in /a/very/long/path" + "/x" * 100)
    assert capsys.readouterr().err == "   corpus  kept 3 [of] 4 files in /a/very/long/path" + "/x" * 100 + "\n"


def test_names_between_colons_stay_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("examples", "tasks.py:851:shield:0")  # rich would print a picture of a shield
    assert capsys.readouterr().err == " examples  tasks.py:851:shield:0\n"


def test_plain_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress("pretrain", "steps", total=100) as advance:
        now[0] = 50
        advance(0, "starting")
        for step in range(1, 22):
            now[0] = 50 + step
            advance(step, f"loss {step}")
        now[0] = 100
        advance(21, "nothing new")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        " pretrain  1 of 100 steps  loss 1",
        " pretrain  11 of 100 steps, about 89 s left  loss 11",
        " pretrain  21 of 100 steps, about 79 s left  loss 21",
    ]
