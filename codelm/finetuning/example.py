"""What a model is fine-tuned on."""

from collections.abc import Iterable
from dataclasses import dataclass

from codelm.corpus.hashing import order_key


@dataclass(frozen=True)
class Example:
    """One prompt and one solution of it.

    Attributes:
        id: unique in its data; names the example where it is dropped.
        prompt: what the model is given.
        completion: what it is to learn to write, before the end of text.
        group: examples of one group are on the same side of the validation split: a problem's solutions.
    """

    id: str
    prompt: str
    completion: str
    group: str


def limited(examples: Iterable[Example], most: int | None, seed: int) -> tuple[list[Example], list[Example]]:
    """The examples in an order that the seed decides, and what a limit on each group leaves out.

    Args:
        examples: in any order; it does not change the result.
        most: examples of a group; None for all.
        seed: shuffles.

    Returns:
        (kept, left out).
    """
    shuffled = sorted(examples, key=lambda example: (order_key(seed, "solution", example.id), example.id))
    seen: dict[str, int] = {}
    kept: list[Example] = []
    left_out: list[Example] = []
    for example in shuffled:
        seen[example.group] = seen.get(example.group, 0) + 1
        (kept if most is None or seen[example.group] <= most else left_out).append(example)
    return kept, left_out
