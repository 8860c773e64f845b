"""The sections `tokenizer`, `data` and `model`: from the corpus to the shape that is trained."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from codelm.config.presets import ModelPreset, filled
from codelm.config.section import PositiveInt, Section, Share


class Tokenizer(Section):
    """The byte-level BPE tokenizer."""

    pretrained: str | None = None
    """A directory or a name on the Hugging Face hub whose tokenizer is taken, instead of training one; special tokens
    that it lacks are added. `model.pretrained`, where that is set, unless said otherwise."""
    vocab_size: PositiveInt = 32_768
    """Special tokens included."""
    min_frequency: PositiveInt = 2


class Data(Section):
    """How the corpus becomes training sequences."""

    sequence_length: Annotated[int, Field(ge=8)] = 1024
    """Tokens in a sequence."""
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    """Share of the files (of their near-duplicate groups) held out."""
    packing: Literal["best_fit", "concatenate"] = "best_fit"
    """`best_fit` cuts only documents that are longer than a sequence, into full sequences and a rest, and pads what the
    rests do not fill; `concatenate` cuts one stream of all documents wherever a sequence ends, and drops its tail."""
    fim_rate: Share = 0.5
    """Share of the training pieces to fill in the middle of, so that the endpoint's `suffix` works; Bavarian et al.
    2022 found no loss left to right up to 0.9. The validation split has none, so that its losses compare."""
    fim_spm_rate: Share = 0.5
    """Of these, the share with the suffix first (SPM), as SantaCoder has it; the rest has the prefix first (PSM)."""
    streaming: bool = False
    """Train off a live pipeline that encodes and packs the corpus meanwhile, a row group of 8 MB by itself, rather than
    off a packed split, for corpora that are too large to pack first. The validation split is packed."""
    repo_level: bool = False
    """Join the files of a repository, with `<repo_name>` and `<file_sep>`, to one document, where there is a name."""
    isolate_documents: bool = False
    """Attention does not see across documents in a sequence, positions begin anew in each, and the first token of one
    is not predicted from the last."""


class Model(Section):
    """The shape of a model; or the pretrained one to start from."""

    preset: ModelPreset | None = None
    """Gives the defaults of this section and of `tokenizer` (`codelm/config/models/NAME.yaml`)."""
    pretrained: str | None = None
    """A directory, or a name on the Hugging Face hub, whose weights training starts from; its config gives the shape,
    and `architecture` has to be its own. null draws the weights."""
    architecture: Literal["llama", "gpt2", "gpt_neo", "gpt_bigcode"] = "llama"
    hidden_size: PositiveInt = 256
    layers: PositiveInt = 6
    heads: PositiveInt = 8
    kv_heads: PositiveInt = 2
    """Key/value heads (llama); gpt2 and gpt_neo have as many as heads, gpt_bigcode has one."""
    intermediate_size: PositiveInt = 688
    max_positions: PositiveInt = 1024
    tie_embeddings: bool = True
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of embeddings, attention and residual branches; of the attention alone for llama, which has no other. A model
    that sees its data about once does not overfit."""
    scale_attention_by_inverse_layer: bool = False
    reorder_and_upcast_attention: bool = False
    """CodeParrot's changes to GPT-2, from Mistral (Karamcheti et al. 2021): attention divided by the layer's number,
    and its product scaled first and taken in float32. For gpt2 alone; vLLM does not load such a model."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        return filled(given.get("preset"), "model", given) if isinstance(given, dict) else given
