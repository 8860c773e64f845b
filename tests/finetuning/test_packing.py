import numpy as np
import pytest

from codelm.finetuning.example import Example, limited
from codelm.finetuning.packing import encode, packed
from tests.finetuning.shapes import EOS, EXAMPLES, VOCABULARY, tokenizer


def example(prompt: int, completion: int, name: str = "x") -> Example:
    return Example(name, "p" * prompt, "c" * completion, name)


@pytest.mark.parametrize(
    ("prompt", "completion", "long", "outcome"),
    [
        (8, 7, "drop", "whole"),
        (9, 7, "drop", "too_long"),
        (9, 7, "cut_prompt", "cut"),
        (1000, 7, "cut_prompt", "cut"),
        (9, 8, "cut_prompt", "too_long"),  # 7 places left for the prompt, of 16
        (0, 15, "cut_prompt", "whole"),
        (0, 16, "cut_prompt", "too_long"),
        (3, 0, "drop", "empty_solution"),
    ],
)
def test_the_rule_for_long_examples(prompt: int, completion: int, long: str, outcome: str) -> None:
    """With sequences of 16 bytes, one for the end of text."""
    encoded = encode([example(prompt, completion)], tokenizer(), EOS, 16, long)  # type: ignore[arg-type]
    assert [reason for _, reason in encoded.dropped] == ([outcome] if outcome not in ("whole", "cut") else [])
    assert encoded.cut == (["x"] if outcome == "cut" else [])
    for piece in encoded.pieces:
        assert len(piece) <= 16
        assert (piece >= 0).sum() == completion + 1  # the solution is whole
        assert piece[-1] == EOS


def test_every_token_of_every_example_is_in_the_sequences_once() -> None:
    encoded = encode(EXAMPLES, tokenizer(), EOS, 40, "drop")
    tokens, info = packed(encoded.pieces, 40, EOS, VOCABULARY)
    assert (info.examples, info.sequences, info.tokens) == (4, len(tokens), tokens.size)
    assert info.prompt_tokens + info.learnt_tokens + info.padding_tokens == info.tokens
    flat = ",".join(map(str, tokens.reshape(-1).tolist()))
    for piece in encoded.pieces:
        assert flat.count(",".join(map(str, piece.tolist()))) == 1
    padding = (tokens == ~EOS).sum()
    assert padding == info.padding_tokens


def test_special_tokens_in_texts_are_text() -> None:
    encoded = encode([Example("x", "<|endoftext|>", "<|endoftext|>", "x")], tokenizer(), EOS, 40, "drop")
    assert (encoded.pieces[0] == EOS).sum() == 1
    assert (encoded.pieces[0] == ~EOS).sum() == 0


def test_solutions_of_a_problem_are_drawn_by_the_seed() -> None:
    examples = [Example(f"{problem}/{number}", "p", "c", problem) for problem in "ab" for number in range(6)]
    kept, left = limited(examples, 2, seed=1)
    assert sorted(example.group for example in kept) == ["a", "a", "b", "b"]
    assert len(kept) + len(left) == 12
    assert limited(list(reversed(examples)), 2, seed=1) == (kept, left)
    assert any(limited(examples, 2, seed=seed)[0] != kept for seed in (2, 3))
    assert limited(examples, None, seed=1)[1] == []


def test_unigram_entropy_is_of_the_learnt_tokens() -> None:
    _, info = packed([np.array([~1, 5, EOS], np.int32)], 4, EOS, 263)
    assert info.unigram_entropy == pytest.approx(np.log(2), abs=1e-6)
