"""What is predicted: the loss of packed sequences, and what each token may see.

Documents are told apart by the end of text between them, so nothing beside the tokens is stored. Isolated, a document
is trained on as if it stood alone: its positions begin at 0, its attention does not reach into what stands before it,
and its first token, which nothing is known about, is not predicted. Transformers makes the block-diagonal mask from
positions that begin anew (`masking_utils.find_packed_sequence_indices`), for every architecture and for eager
attention as for `scaled_dot_product_attention`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from codelm.training.cross_entropy import IGNORED, token_losses


@dataclass(frozen=True)
class Objective:
    """The loss.

    Attributes:
        eos_id: the token that ends a document.
        pad_id: the token of padding, which is never predicted.
        isolate: whether documents are isolated from each other.
        predicted: tokens that are predicted in a sequence of the training split, on average.
    """

    eos_id: int
    pad_id: int
    isolate: bool
    predicted: float

    def loss(self, model: nn.Module, tokens: Tensor) -> Tensor:
        """The mean loss over sequences, in nats a token.

        It is divided by the average number of predicted tokens, not by these sequences' own: so each token of the
        split weighs the same, however the sequences are dealt out to micro-batches and workers.

        Args:
            model: a causal language model of Hugging Face.
            tokens: int64 of shape (sequences, length), on the model's device.
        """
        return self.sums(model, tokens)[:, 0].sum() / (len(tokens) * self.predicted)

    def sums(self, model: nn.Module, tokens: Tensor) -> Tensor:
        """For each sequence, the cross-entropy in nats of its predicted tokens, and how many they are.

        Returns:
            float32 of shape (sequences, 2).
        """
        restarts = {"position_ids": positions(tokens, self.eos_id)} if self.isolate else {}
        logits = model(input_ids=tokens, use_cache=False, **restarts).logits
        labels = self.labels(tokens)
        losses = token_losses(logits.flatten(0, 1), labels.flatten())
        return torch.stack([losses.view_as(tokens).sum(dim=1), (labels != IGNORED).sum(dim=1).float()], dim=1)

    def labels(self, tokens: Tensor) -> Tensor:
        """What is to be predicted at each place: the next token, or `IGNORED`."""
        # Shifting the labels rather than the logits saves a copy of the largest tensor there is.
        labels = functional.pad(tokens[:, 1:], (0, 1), value=IGNORED)
        labels = labels.masked_fill(labels == self.pad_id, IGNORED)
        return labels.masked_fill(tokens == self.eos_id, IGNORED) if self.isolate else labels


def objective_of(info: dict[str, Any], isolate: bool) -> Objective:
    """The objective for a split.

    Args:
        info: of the training split, as `codelm.tokenization.packing.PackedInfo` has it.
        isolate: whether documents are isolated.
    """
    predicted = info["sequences"] * (info["sequence_length"] - 1) - info["padding_tokens"]
    if isolate:
        predicted -= info["joints"]
    return Objective(info["eos_id"], info["pad_id"], isolate, predicted / info["sequences"])


def positions(tokens: Tensor, eos_id: int) -> Tensor:
    """The place of each token in its document: `[5, 6, eos, 7, eos, 8] -> [0, 1, 2, 0, 1, 0]`.

    Args:
        tokens: int64 of shape (sequences, length).
        eos_id: the token that ends a document.
    """
    places = torch.arange(tokens.shape[1], device=tokens.device)
    begins = functional.pad(tokens[:, :-1] == eos_id, (1, 0), value=True)
    return places - torch.where(begins, places, 0).cummax(dim=1).values
