import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codelm.config import Model, Training
from codelm.errors import UserError
from codelm.modeling.build import build_model, model_config
from codelm.training.checkpoint import Progress
from codelm.training.data import PackedData, open_packed, spread
from codelm.training.engine import make_engine
from codelm.training.loop import Diverged, Loop
from codelm.training.objective import Objective
from codelm.training.order import SampleOrder
from tests.training.packed import write_packed

CONFIG = model_config(
    Model(hidden_size=32, layers=1, heads=4, kv_heads=2, intermediate_size=48, max_positions=32), vocab_size=64
)
OBJECTIVE = Objective(eos_id=0, pad_id=64, isolate=False, predicted=31)
RECIPE: dict[str, Any] = {
    "engine": "torch",
    "steps": 10,
    "batch_size": 4,
    "micro_batch_size": 2,
    "warmup_steps": 2,
    "learning_rate": 1e-2,
    "log_every": 4,
    "validate_every": 5,
    "checkpoint_every": 3,
    "validation_sequences": 7,
}


@pytest.fixture
def data(tmp_path: Path) -> tuple[PackedData, PackedData]:
    root = write_packed(tmp_path, vocab_size=64, length=32, train=24, valid=11)
    return open_packed(root / "train"), open_packed(root / "valid")


class Recorder:
    """A loop over plain torch, and all that it reported and saved."""

    def __init__(self, data: tuple[PackedData, PackedData], **recipe: Any) -> None:
        self.training = Training(**(RECIPE | recipe))
        self.engine = make_engine(build_model(CONFIG, 0), self.training, "fp32", torch.device("cpu"), OBJECTIVE)
        self.reports: list[tuple[int, dict[str, float]]] = []
        self.saved: list[tuple[int, int, int]] = []
        self.progress = Progress()
        self.loop = Loop(self.engine, *data, self.training, 5, self._report, self._save)

    def _report(self, step: int, metrics: dict[str, float]) -> None:
        self.reports.append((step, metrics))

    def _save(self, progress: Progress) -> None:
        self.saved.append((progress.step, progress.cursor, len(progress.curve)))

    def run(self) -> "Recorder":
        self.loop.run(self.progress)
        return self


def test_each_step_is_in_the_curve_and_the_loss_falls(data: tuple[PackedData, PackedData]) -> None:
    curve = Recorder(data, steps=30).run().progress.curve
    assert [point.step for point in curve] == list(range(31))
    assert (curve[0].train_loss, curve[0].learning_rate) == (None, None)
    assert curve[0].validation_loss == pytest.approx(math.log(64), abs=0.1)
    assert [point.step for point in curve if point.validation_loss is not None] == [0, 5, 10, 15, 20, 25, 30]
    assert curve[-1].validation_loss < curve[0].validation_loss - 0.5


def test_reports_come_at_log_and_validation_steps_and_saves_at_theirs(data: tuple[PackedData, PackedData]) -> None:
    recorder = Recorder(data).run()
    assert [step for step, _ in recorder.reports] == [0, 4, 5, 8, 10]
    validation = {"validation_loss", "validation_perplexity"}
    assert set(recorder.reports[0][1]) == validation
    usual = {"train_loss", "learning_rate", "gradient_norm", "tokens_per_second", "tokens"}
    assert set(recorder.reports[1][1]) == usual | {"checkpoint_seconds"}
    assert set(recorder.reports[2][1]) == usual | validation
    assert recorder.reports[1][1]["tokens"] == 4 * 4 * 32
    assert recorder.reports[2][1]["validation_perplexity"] == math.exp(recorder.reports[2][1]["validation_loss"])
    assert 0 <= recorder.loop.checkpoint_wait_share < 0.5
    # (step, samples consumed, points in the curve): all that was done is in every checkpoint.
    assert recorder.saved == [(3, 12, 4), (6, 24, 7), (9, 36, 10), (10, 40, 11)]


def test_how_often_it_logs_and_saves_does_not_change_the_curve(data: tuple[PackedData, PackedData]) -> None:
    often = Recorder(data, log_every=1, checkpoint_every=1).run()
    seldom = Recorder(data, log_every=7, checkpoint_every=100).run()
    assert often.progress.curve == seldom.progress.curve


def test_validation_is_the_mean_over_its_sequences(data: tuple[PackedData, PackedData]) -> None:
    """Transformers' own loss, one sequence at a time; 7 sequences do not fill passes of 2."""
    recorder = Recorder(data)
    model = build_model(CONFIG, 0)
    expected = []
    for row in spread(11, 7):
        tokens = data[1].batch(np.array([row]))
        expected.append(model(input_ids=tokens, labels=tokens).loss.item())
    assert recorder.loop.validation_loss() == pytest.approx(np.mean(expected), abs=1e-5)


def test_accumulated_gradients_are_those_of_the_whole_batch(data: tuple[PackedData, PackedData]) -> None:
    tokens = data[0].batch(np.arange(4))
    gradients = []
    for micro_batch in (1, 2, 4):
        training = Training(**(RECIPE | {"micro_batch_size": micro_batch, "max_gradient_norm": 1e9}))
        engine = make_engine(build_model(CONFIG, 0), training, "fp32", torch.device("cpu"), OBJECTIVE)
        parts = tokens.split(micro_batch)
        losses = [engine.forward_backward(part, last=part is parts[-1]) for part in parts]
        gradients.append((torch.stack(losses).mean().item(), engine.step(0.0)))
    assert gradients[1] == pytest.approx(gradients[0], rel=1e-5)
    assert gradients[2] == pytest.approx(gradients[0], rel=1e-5)
    model = build_model(CONFIG, 0)
    model(input_ids=tokens, labels=tokens).loss.backward()
    norm = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()
    assert gradients[0][1] == pytest.approx(norm.item(), rel=1e-5)


def test_the_gradient_is_clipped(data: tuple[PackedData, PackedData]) -> None:
    """With plain gradient descent in AdamW's place, the update is as long as the clipped gradient."""
    training = Training(**(RECIPE | {"max_gradient_norm": 0.25, "micro_batch_size": 4}))
    engine: Any = make_engine(build_model(CONFIG, 0), training, "fp32", torch.device("cpu"), OBJECTIVE)
    before = engine.weights()
    engine._optimizer = torch.optim.SGD(engine._model.parameters(), lr=1.0)
    engine.forward_backward(data[0].batch(np.arange(4)), last=True)
    assert engine.step(1.0) > 0.25
    update = torch.cat([(before[name] - weight).flatten() for name, weight in engine.weights().items()])
    assert update.norm().item() == pytest.approx(0.25, rel=1e-3)


def test_dropout_is_the_same_after_a_restart(data: tuple[PackedData, PackedData]) -> None:
    def run(steps_before: int) -> list[float]:
        recorder = Recorder(data, steps=6)
        for module in recorder.engine._model.modules():
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.5
        torch.manual_seed(steps_before)
        recorder.run()
        return [point.train_loss for point in recorder.progress.curve[1:]]

    assert run(0) == run(1)
    assert run(0) != [point.train_loss for point in Recorder(data, steps=6).run().progress.curve[1:]]


def test_samples_follow_the_seeded_order(data: tuple[PackedData, PackedData]) -> None:
    recorder, seen = Recorder(data), []
    forward_backward = recorder.engine.forward_backward

    def spy(tokens: Tensor, last: bool) -> Tensor:
        seen.extend(tokens.tolist())
        return forward_backward(tokens, last)

    recorder.engine.forward_backward = spy  # type: ignore[method-assign]
    recorder.run()
    order = SampleOrder(24, seed=5).at(np.arange(40))
    assert seen == data[0].batch(order).tolist()
    running = b""
    for step in order.astype("<i8").reshape(10, 4):
        running = hashlib.sha256(running + step.tobytes()).digest()
    assert recorder.progress.samples == running.hex()


@pytest.mark.parametrize("log_every", [1, 4])
def test_a_loss_that_is_not_a_number_stops_and_names_the_step(
    data: tuple[PackedData, PackedData], log_every: int
) -> None:
    recorder = Recorder(data, log_every=log_every)
    step = recorder.engine.step

    def poison(learning_rate: float) -> float:
        norm = step(learning_rate)
        if recorder.progress.step == 6:  # the update of step 7: the loss of step 8 shows it
            next(recorder.engine._model.parameters()).data.fill_(math.nan)
        return norm

    recorder.engine.step = poison
    with pytest.raises(UserError, match=r"the training loss is nan at step 8; lower training.learning_rate"):
        recorder.run()
    assert [saved for saved, *_ in recorder.saved] == [3, 6]
    assert recorder.progress.curve[-1].step == 7


def test_a_loss_that_is_not_a_number_names_the_micro_batch(data: tuple[PackedData, PackedData]) -> None:
    recorder, passes = Recorder(data), 0
    forward_backward = recorder.engine.forward_backward

    def poison(tokens: Tensor, last: bool) -> Tensor:
        nonlocal passes
        passes += 1
        return forward_backward(tokens, last) * (math.nan if passes == 6 else 1)  # the second one of step 3

    recorder.engine.forward_backward = poison  # type: ignore[method-assign]
    with pytest.raises(Diverged) as raised:
        recorder.run()
    assert (raised.value.step, recorder.saved) == (3, [])
    assert raised.value.samples == sorted(SampleOrder(24, seed=5).at(np.arange(10, 12)).tolist())


def test_a_gradient_that_is_not_finite_stops_before_the_checkpoint(data: tuple[PackedData, PackedData]) -> None:
    recorder = Recorder(data)
    step = recorder.engine.step
    recorder.engine.step = lambda rate: step(rate) * (math.inf if recorder.progress.step == 5 else 1)  # type: ignore[method-assign]
    with pytest.raises(Diverged, match=r"the norm of the gradient is inf at step 6; lower") as raised:
        recorder.run()
    assert [saved for saved, *_ in recorder.saved] == [3]
    assert raised.value.samples == sorted(SampleOrder(24, seed=5).at(np.arange(20, 24)).tolist())


def test_resuming_at_the_end_does_nothing(data: tuple[PackedData, PackedData]) -> None:
    done = Recorder(data).run()
    again = Recorder(data)
    again.progress = done.progress
    weights = again.engine.weights()
    again.run()
    assert again.reports == []
    assert all(torch.equal(weights[name], weight) for name, weight in again.engine.weights().items())


def test_gradient_checkpointing_changes_nothing_but_the_memory(data: tuple[PackedData, PackedData]) -> None:
    recorder = Recorder(data, gradient_checkpointing=True)
    layers = [module for module in recorder.engine._model.modules() if getattr(module, "gradient_checkpointing", False)]
    assert layers
    assert recorder.run().progress.curve == Recorder(data).run().progress.curve


@pytest.mark.parametrize("optimizer", ["adafactor", "muon"])
def test_other_optimizers_learn_as_well(data: tuple[PackedData, PackedData], optimizer: str) -> None:
    curve = Recorder(data, optimizer=optimizer, steps=30, learning_rate=3e-2).run().progress.curve
    assert curve[-1].validation_loss < curve[0].validation_loss - 0.3


def test_a_compiled_model_trains_alike(data: tuple[PackedData, PackedData], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a backend that needs no compiler: what is tested is that compiling keeps names and results."""
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile_module(module, backend="eager"))
    compiled, plain = Recorder(data, compile=True).run(), Recorder(data).run()
    assert compiled.engine.weights().keys() == plain.engine.weights().keys()
    for ours, theirs in zip(compiled.progress.curve[1:], plain.progress.curve[1:], strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, abs=1e-5)
