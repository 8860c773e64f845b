"""The loss on solutions: what is only read is told from what is to be learnt by the sign of its ids.

A token that is only read (of a prompt, or padding) is stored as its complement, which is negative: so an example is
one row of integers, and data, loop and engines are those of pretraining. `[~5, ~6, 7, eos, ~8, 9, eos, ~eos]` holds
two examples: the prompt 5 6 with the solution 7, the prompt 8 with the solution 9, and padding.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from codelm.training.cross_entropy import IGNORED, token_losses
from codelm.training.objective import Objective


@dataclass(frozen=True)
class SolutionObjective(Objective):
    """Cross-entropy of solutions and their ends of text; examples in one sequence do not see each other."""

    def sums(self, model: nn.Module, tokens: Tensor) -> Tensor:
        """See `Objective.sums`; tokens that are only read are complements."""
        labels = self.labels(tokens)
        ids = readable(tokens)
        logits = model(input_ids=ids, position_ids=self.places(ids, tokens), use_cache=False).logits
        losses = token_losses(logits.flatten(0, 1), labels.flatten())
        return torch.stack([losses.view_as(ids).sum(dim=1), (labels != IGNORED).sum(dim=1).float()], dim=1)

    def labels(self, tokens: Tensor) -> Tensor:
        """The next token where it is to be learnt, else `IGNORED`."""
        following = functional.pad(tokens[:, 1:], (0, 1), value=-1)
        return following.masked_fill(following < 0, IGNORED)

    def places(self, ids: Tensor, tokens: Tensor) -> Tensor:
        """The place of each token in its example; an example ends with a learnt end of text.

        Padding goes on with the places of its own, so that no place is as large as to be unknown to the model.
        """
        ends = (ids == self.eos_id) & (tokens >= 0)
        places = torch.arange(ids.shape[1], device=ids.device)
        begins = functional.pad(ends[:, :-1], (1, 0), value=True)
        return places - torch.where(begins, places, 0).cummax(dim=1).values


def readable(tokens: Tensor) -> Tensor:
    """The ids, whether read or learnt: `[~5, 7] -> [5, 7]`."""
    return torch.where(tokens < 0, ~tokens, tokens)


def solution_objective(info: dict[str, Any]) -> SolutionObjective:
    """The objective for a split that `codelm.finetuning.packing` wrote, by its `info.json`."""
    return SolutionObjective(
        eos_id=info["eos_id"], pad_id=-1, isolate=True, predicted=info["learnt_tokens"] / info["sequences"]
    )
