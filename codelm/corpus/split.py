"""Which documents are held out for validation."""

from codelm.corpus.hashing import coin


def is_held_out(seed: int, cluster: str, fraction: float) -> bool:
    """Whether a near-duplicate cluster belongs to the validation split.

    The cluster decides, not the document: documents known to resemble each other are on the same side.

    Args:
        seed: the experiment's seed.
        cluster: the `cluster` column of the corpus.
        fraction: the expected share of the clusters that is held out.
    """
    return coin(seed, "validation", cluster) < fraction
