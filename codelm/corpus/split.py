"""Which documents are held out for validation."""

from codelm.corpus.hashing import coin
from codelm.errors import UserError


def is_held_out(seed: int, cluster: str, fraction: float) -> bool:
    """Whether a near-duplicate cluster belongs to the validation split.

    The cluster decides, not the document: documents known to resemble each other are on the same side.

    Args:
        seed: the experiment's seed.
        cluster: the `cluster` column of the corpus.
        fraction: the expected share of the clusters that is held out.
    """
    return coin(seed, "validation", cluster) < fraction


def check_both_sides(train: int, held_out: int, fraction: float) -> None:
    """Raise UserError unless both splits have a document.

    Args:
        train: documents to train on.
        held_out: documents held out.
        fraction: the share that was to be held out.
    """
    if train and held_out:
        return
    what = "leaves nothing to train on" if held_out else "holds out none"
    change = "lower" if held_out else "raise"
    raise UserError(
        f"data.validation_fraction: {fraction} {what} of {train + held_out} documents (near-duplicates stay on one "
        f"side); {change} it, set another seed, or add files to corpus.sources"
    )
