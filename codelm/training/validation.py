"""The loss of any causal language model of Hugging Face on held-out data (CodeParrot's `validation_loss.py`)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from codelm.console import progress
from codelm.errors import UserError
from codelm.modeling.source import check_source
from codelm.training.data import open_packed
from codelm.training.objective import Objective
from codelm.training.validation_data import Read, is_packed, packed_sequences, text_sequences, texts

SEQUENCE_LENGTH = 1024
NO_PADDING = -1


@dataclass(frozen=True)
class Validation:
    """What was measured.

    Attributes:
        loss: nats a predicted token; the first of a sequence is not predicted.
        bits_per_byte: of UTF-8, so that models with other tokenizers compare: loss / ln 2, times the tokens that a
            byte of these texts makes, ends of text included.
        tokens: that were predicted.
        sequences: that they were in.
        documents: that were read.
        sequence_length: tokens in a sequence, at most.
        batch_size: sequences computed together.
        device: what on.
    """

    loss: float
    bits_per_byte: float
    tokens: int
    sequences: int
    documents: int
    sequence_length: int
    batch_size: int
    device: str

    @property
    def perplexity(self) -> float:
        """e to the loss."""
        return math.exp(self.loss)

    def describe(self) -> str:
        """A line for each figure."""
        return "\n".join(
            [
                f"loss           {self.loss:.4f} nats per token",
                f"perplexity     {self.perplexity:,.3f}",
                f"bits per byte  {self.bits_per_byte:.4f}",
                f"tokens         {self.tokens:,} predicted, of {self.documents:,} documents",
                f"sequences      {self.sequences:,} of up to {self.sequence_length:,} tokens, {self.batch_size} at a "
                f"time, float32 on {self.device}",
            ]
        )


def validation_loss(
    model: str,
    data: Path,
    batch_size: int,
    sequence_length: int | None = None,
    max_sequences: int | None = None,
    isolate: bool = False,
) -> Validation:
    """Measure a model.

    Args:
        model: a directory that `save_pretrained` wrote, or a name on the Hugging Face hub.
        data: a split of the pack stage, the directory of a corpus, or texts in Parquet, JSON Lines or plain files.
        batch_size: sequences computed together.
        sequence_length: of texts; None for 1,024 or the model's positions, if these are fewer. A packed split has its
            own.
        max_sequences: measure the first so many; None for all.
        isolate: documents of a sequence do not see each other, and their first tokens are not predicted, as in a
            training with `data.isolate_documents`.

    Raises:
        UserError: there is no such model or data, or they do not fit.
    """
    loaded, tokenizer = _load(model)
    positions = loaded.config.max_position_embeddings
    read = Read()
    total = None
    if is_packed(data):
        packed = open_packed(data)
        info, total = packed.info, min(len(packed), max_sequences or len(packed))
        if sequence_length not in (None, info["sequence_length"]):
            raise UserError(f"--sequence-length: {str(data)!r} is packed with {info['sequence_length']}; leave it out")
        length, objective = info["sequence_length"], Objective(info["eos_id"], info["pad_id"], isolate, 1.0)
        sequences = packed_sequences(data, tokenizer, read)
    else:
        length = sequence_length or min(SEQUENCE_LENGTH, positions)
        objective = Objective(tokenizer.eos_token_id, NO_PADDING, isolate, 1.0)
        sequences = text_sequences(texts(data), tokenizer, length, read)
    if length > positions:
        raise UserError(f"--sequence-length: {length} is longer than the model's {positions} positions")
    return _measure(loaded, islice(sequences, max_sequences), total, objective, read, length, batch_size)


def _load(source: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    check_source("--model", source)
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise UserError(f"--model: cannot load {source!r}: {str(error).splitlines()[0]}") from error
    if tokenizer.eos_token_id is None:
        raise UserError(f"--model: the tokenizer of {source!r} names no end of text (eos_token)")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.nn.Module.to(model, device)
    return model.eval(), tokenizer


@torch.no_grad()
def _measure(
    model: PreTrainedModel,
    sequences: Iterator[Tensor],
    total: int | None,
    objective: Objective,
    read: Read,
    length: int,
    batch_size: int,
) -> Validation:
    sums, count = torch.zeros(2, dtype=torch.float64), 0
    with progress("loss", "sequences", total) as advance:
        for batch in _batches(sequences, batch_size):
            sums += objective.sums(model, batch.to(model.device)).double().sum(dim=0).cpu()
            count += len(batch)
            advance(count, "")
    nats, tokens = sums.tolist()
    if not tokens:
        raise UserError("--data: there is no text in it")
    return Validation(
        loss=nats / tokens,
        bits_per_byte=nats / tokens / math.log(2) * read.tokens / read.bytes,
        tokens=int(tokens),
        sequences=count,
        documents=read.documents,
        sequence_length=length,
        batch_size=batch_size,
        device=model.device.type,
    )


def _batches(sequences: Iterator[Tensor], size: int) -> Iterator[Tensor]:
    """Sequences of one length together; a last one that is shorter alone."""
    waiting: list[Tensor] = []
    for sequence in sequences:
        if waiting and (len(waiting) == size or len(sequence) != len(waiting[0])):
            yield torch.stack(waiting)
            waiting = []
        waiting.append(sequence)
    if waiting:
        yield torch.stack(waiting)
