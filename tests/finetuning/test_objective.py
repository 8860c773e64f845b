"""The loss is on solutions and ends of text alone, and packed examples do not see each other."""

from dataclasses import asdict, replace

import pytest
import torch

from codelm.finetuning.example import Example
from codelm.finetuning.objective import SolutionObjective, readable, solution_objective
from tests.finetuning.shapes import ARCHITECTURES, EOS, EXAMPLES, data, rows, tiny, tokenizer

OBJECTIVE = SolutionObjective(eos_id=EOS, pad_id=-1, isolate=True, predicted=1.0)


def test_labels_by_hand() -> None:
    tokens = torch.tensor([[~5, ~6, 7, EOS, ~8, 9, EOS, ~EOS]])
    assert readable(tokens).tolist() == [[5, 6, 7, EOS, 8, 9, EOS, EOS]]
    assert OBJECTIVE.labels(tokens).tolist() == [[-100, 7, EOS, -100, 9, EOS, -100, -100]]
    assert OBJECTIVE.places(readable(tokens), tokens).tolist() == [[0, 1, 2, 3, 0, 1, 2, 0]]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_gradient_with_respect_to_targets_in_the_question_is_zero(architecture: str) -> None:
    """The logits at places whose target is of a question, or padding, get no gradient; the others do."""
    model, tokens = tiny(architecture), rows()
    kept = {}

    def keep(module: object, inputs: object, output: torch.Tensor) -> None:
        output.retain_grad()
        kept["logits"] = output

    model.get_output_embeddings().register_forward_hook(keep)
    OBJECTIVE.loss(model, tokens).backward()
    gradient = kept["logits"].grad.abs().sum(dim=-1)
    learnt = torch.nn.functional.pad(tokens[:, 1:] >= 0, (0, 1))
    assert learnt.sum() == sum(len(example.completion) + 1 for example in EXAMPLES)
    assert (gradient[~learnt] == 0).all()
    assert (gradient[learnt] > 0).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_examples_have_the_losses_that_they_have_alone(architecture: str) -> None:
    """Transformers' own loss of each example by itself, with labels of -100 on the question, as hendrycks/apps."""
    model, encoder = tiny(architecture), tokenizer()
    nats, count = 0.0, 0
    with torch.no_grad():
        for example in EXAMPLES:
            prompt, answer = encoder.encode(example.prompt).ids, [*encoder.encode(example.completion).ids, EOS]
            labels = torch.tensor([[-100] * len(prompt) + answer])
            loss = model(input_ids=torch.tensor([[*prompt, *answer]]), labels=labels).loss.item()
            nats, count = nats + loss * len(answer), count + len(answer)
        tokens = rows()
        assert len(tokens) < len(EXAMPLES)
        sums = OBJECTIVE.sums(model, tokens).sum(dim=0)
    assert sums[1] == count
    assert sums[0].item() == pytest.approx(nats, rel=1e-5)


def test_each_learnt_token_weighs_the_same_however_examples_share_sequences() -> None:
    _, info = data()
    objective = solution_objective(asdict(info))
    assert objective.predicted * info.sequences == info.learnt_tokens == 5 + 5 + 4 + 1 + 4
    model, tokens = tiny("llama"), rows()
    with torch.no_grad():
        nats, count = objective.sums(model, tokens).sum(dim=0).tolist()
        assert objective.loss(model, tokens).item() == pytest.approx(nats / count, rel=1e-6)


def test_a_changed_question_of_one_example_leaves_the_others_losses() -> None:
    model = tiny("gpt_neo")
    changed = [replace(EXAMPLES[0], prompt="Q: ADD\nA:\n"), *EXAMPLES[1:]]
    with torch.no_grad():
        losses = [
            sum(OBJECTIVE.sums(model, rows([example]))[:, 0].item() for example in some[1:])
            for some in (EXAMPLES, changed)
        ]
        whole = [OBJECTIVE.sums(model, rows(some))[:, 0].sum().item() for some in (EXAMPLES, changed)]
        alone = [OBJECTIVE.sums(model, rows([some[0]]))[:, 0].sum().item() for some in (EXAMPLES, changed)]
    assert losses[0] == pytest.approx(losses[1])
    assert whole[0] - whole[1] == pytest.approx(alone[0] - alone[1], abs=1e-4)


def test_an_empty_prompt_is_learnt_from_its_second_token_on() -> None:
    tokens = rows([Example("x", "", "ab", "x")], 8)
    assert int((OBJECTIVE.labels(tokens) != -100).sum()) == 2
