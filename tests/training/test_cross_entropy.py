import pytest
import torch
from torch.nn import functional

from codelm.training import cross_entropy
from codelm.training.cross_entropy import IGNORED, token_losses


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows_bytes", [1, 700, 1 << 20])
def test_losses_and_gradients_are_torchs(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, rows_bytes: int) -> None:
    monkeypatch.setattr(cross_entropy, "ROWS_BYTES", rows_bytes)
    torch.manual_seed(0)
    hidden = torch.randn(50, 16).to(dtype).requires_grad_()
    output = torch.randn(40, 16).to(dtype).requires_grad_()
    labels = torch.randint(0, 40, (50,))
    labels[::7] = IGNORED
    weights = torch.rand(50)

    logits = hidden @ output.T * 5
    wanted = functional.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="none")
    wanted_gradients = torch.autograd.grad((wanted * weights).sum(), (hidden, output))
    given = token_losses(hidden @ output.T * 5, labels)
    gradients = torch.autograd.grad((given * weights).sum(), (hidden, output))

    torch.testing.assert_close(given, wanted, atol=1e-5, rtol=1e-5)
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    for mine, theirs in zip(gradients, wanted_gradients, strict=True):
        assert mine.dtype == dtype
        torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=tolerance)


def test_without_a_gradient_the_logits_stay() -> None:
    logits = torch.randn(9, 5)
    before = logits.clone()
    labels = torch.tensor([0, 1, 2, 3, 4, IGNORED, 0, 1, 2])
    torch.testing.assert_close(
        token_losses(logits, labels), functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    )
    assert torch.equal(logits, before)


def test_large_logits_do_not_overflow() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]], requires_grad=True)
    losses = token_losses(logits * 1, torch.tensor([1, 2]))
    assert losses.tolist() == pytest.approx([1e4, 1.0986123], rel=1e-6)
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
