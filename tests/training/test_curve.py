from pathlib import Path

from codelm.training.curve import Point, draw, from_lines, to_lines, validations

CURVE = [Point(0, validation_loss=8.3), Point(1, 8.25, 1e-3), Point(2, 7.5, 2e-3, 7.4)]


def test_lines_come_back_equal() -> None:
    text = to_lines(CURVE)
    assert text.splitlines()[1] == '{"step": 1, "train_loss": 8.25, "learning_rate": 0.001, "validation_loss": null}'
    assert from_lines(text) == CURVE
    assert validations(CURVE) == [(0, 8.3), (2, 7.4)]


def test_equal_curves_make_equal_pictures(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        draw(CURVE, 6.0, tmp_path / name)
    picture = (tmp_path / "one.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert picture == (tmp_path / "two.png").read_bytes()
    draw(CURVE[:2], 6.0, tmp_path / "other.png")
    assert picture != (tmp_path / "other.png").read_bytes()
