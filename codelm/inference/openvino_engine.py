"""The engine for CPUs: OpenVINO's runtime with paged attention, and continuous batching of our own over it.

Not `openvino_genai.ContinuousBatchingPipeline`, which runs the same paged model: it draws tokens itself, so that its
samples would differ from the other engines' and it could neither bias logits nor score a text.

A request holds the cache's blocks for its whole length from the moment it runs, so that none is ever driven out. A
prompt whose beginning is in the cache, of a finished request or of one that runs, is fed from there on; requests with
a beginning that another is just computing wait for it.
"""

from collections.abc import Sequence
from pathlib import Path

from codelm.inference.codec import Codec, load_codec
from codelm.inference.engine import Delta, Options, Request, TokenScore, model_shape
from codelm.inference.openvino_export import exported
from codelm.inference.openvino_model import PagedModel, Piece, capabilities
from codelm.inference.paging import Key, Pool, keys_of
from codelm.inference.progress import Progress, advance_all, check_request, check_score, end_tokens
from codelm.inference.sampling import scores

TOKENS_A_STEP = 512
"""Prompts are fed in pieces, so that those who are being answered do not wait for a long one."""
SCORED_AT_ONCE = 128
"""Positions whose logits are held at a time."""


class _Row:
    """One request with its place in the cache."""

    def __init__(self, progress: Progress, block_size: int) -> None:
        self.progress = progress
        self.block_size = block_size
        self.computed = 0
        """Tokens whose keys and values are in the cache."""
        self.blocks: list[int] = []
        self.keys = keys_of(progress.prompt, block_size)

    @property
    def number(self) -> int:
        return self.progress.number

    @property
    def length(self) -> int:
        """Of prompt and completion so far."""
        return len(self.progress.prompt) + len(self.progress.generated)

    @property
    def blocks_needed(self) -> int:
        # The last token is never fed.
        tokens = len(self.progress.prompt) + self.progress.request.max_new_tokens - 1
        return -(-tokens // self.block_size)

    def shareable(self) -> list[Key]:
        """Of the blocks that may come from others: at least one token is fed, for its logits."""
        return self.keys[: (len(self.progress.prompt) - 1) // self.block_size]

    def next_tokens(self, limit: int) -> Sequence[int]:
        """What is to be fed."""
        prompt, generated = self.progress.prompt, self.progress.generated
        if self.computed >= len(prompt):
            return generated[self.computed - len(prompt) :]
        return prompt[self.computed : self.computed + max(limit, 0)]


class OpenVinoEngine:
    """An `Engine` on a paged model."""

    def __init__(self, model: PagedModel, codec: Codec, ends: frozenset[int], shape: tuple[int, int], options: Options):
        """Make an engine.

        Args:
            model: compiled.
            codec: its tokenizer.
            ends: tokens that end a completion.
            shape: positions and vocabulary.
            options: how many run together, and the size of the cache.
        """
        self.codec, self._model, self._ends = codec, model, ends
        self.max_positions, self._vocabulary = shape
        self._max_batch = options.max_batch
        longest = -(-self.max_positions // model.block_size)
        blocks = max(options.cache_mb * 2**20 // model.block_bytes(), longest)
        model.allocate(blocks + longest)
        self._scratch = range(blocks, blocks + longest)
        """Blocks to score a text in, whoever holds the others."""
        self._pool = Pool(range(blocks), options.remember)
        self._waiting: list[_Row] = []
        self._running: list[_Row] = []
        self._added = 0

    def busy(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self._waiting or self._running)

    def add(self, request: Request) -> int:
        """Take a request; see `Engine.add`."""
        prompt = self.codec.prompt_ids(request.prompt)
        check_request(request, prompt, self._vocabulary, self.max_positions)
        self._added += 1
        self._waiting.append(_Row(Progress(self._added, request, prompt, self.codec), self._model.block_size))
        return self._added

    def cancel(self, number: int) -> None:
        """Forget a request; nothing happens if it has finished."""
        self._waiting = [row for row in self._waiting if row.number != number]
        self._keep({row.number for row in self._running} - {number})

    def step(self) -> list[tuple[int, Delta]]:
        """Generate the next token of the running requests; see `Engine.step`."""
        self._admit()
        pieces: list[Piece] = []
        fed: list[_Row] = []
        ready: list[_Row] = []
        wanted: list[int] = []
        end, left = 0, TOKENS_A_STEP
        # Completions first: a token each. The rest of the step is for prompts, in the order of their coming.
        for row in sorted(self._running, key=lambda row: not row.progress.generated):
            tokens = row.next_tokens(left)
            if not tokens:
                continue
            pieces.append(Piece(tokens, row.computed, row.blocks))
            fed.append(row)
            end, left = end + len(tokens), left - len(tokens)
            if row.computed + len(tokens) == row.length:
                ready.append(row)
                wanted.append(end - 1)
        if not fed:
            return []
        logits = self._model.forward(pieces, wanted)
        for row, piece in zip(fed, pieces, strict=True):
            self._computed(row, piece)
        deltas = advance_all([row.progress for row in ready], logits, self._ends)
        ended = {number for number, delta in deltas if delta.finish_reason is not None}
        if ended:
            self._keep({row.number for row in self._running} - ended)
        return deltas

    def score(self, ids: tuple[int, ...], top: int = 0) -> list[TokenScore]:
        """How likely each token of a text is; see `Engine.score`."""
        check_score(ids, self._vocabulary, self.max_positions)
        scored = [TokenScore(ids[0], None)]
        for start in range(0, len(ids) - 1, SCORED_AT_ONCE):
            tokens = ids[start : min(start + SCORED_AT_ONCE, len(ids) - 1)]
            logits = self._model.forward([Piece(tokens, start, self._scratch)], range(len(tokens)))
            scored += scores(logits, ids[start + 1 : start + 1 + len(tokens)], top)
        return scored

    def _admit(self) -> None:
        """Let waiting requests run, in order, as long as there is room."""
        if len(self._running) == self._max_batch or not self._waiting:
            return
        under_way = {key for row in self._running for key in row.shareable()[row.computed // row.block_size :]}
        still: list[_Row] = []
        for place, row in enumerate(self._waiting):
            if len(self._running) == self._max_batch:
                still += self._waiting[place:]
                break
            shared = self._pool.known(row.shareable())
            missing = row.shareable()[len(shared) :]
            if missing and missing[0] in under_way:
                still.append(row)
                continue
            blocks = self._pool.take(shared, row.blocks_needed - len(shared))
            if blocks is None:
                still += self._waiting[place:]
                break
            row.blocks, row.computed = blocks, len(shared) * row.block_size
            self._running.append(row)
            under_way.update(missing)
        self._waiting = still

    def _computed(self, row: _Row, piece: Piece) -> None:
        """Count what has been fed, and let others share the blocks that are full now."""
        before, row.computed = row.computed, row.computed + len(piece.tokens)
        first, last = before // row.block_size, row.computed // row.block_size
        if last > first:
            row.keys = keys_of([*row.progress.prompt, *row.progress.generated], row.block_size, row.keys)
            for place in range(first, last):
                self._pool.publish(row.blocks[place], row.keys[place])

    def _keep(self, wanted: set[int]) -> None:
        for row in self._running:
            if row.number not in wanted:
                self._pool.release(row.blocks)
        self._running = [row for row in self._running if row.number in wanted]


def load(model_dir: Path, device: str, options: Options) -> OpenVinoEngine:
    """Load a model, which is exported first where that has not been done."""
    del device  # a CPU: `codelm.inference.engine` asks for no other
    precision = options.precision
    if precision == "auto":
        precision = "bf16" if "BF16" in capabilities() else "fp32"
    directory = exported(model_dir, int8=precision == "int8")
    model = PagedModel(directory, "fp32" if precision == "int8" else precision, options.threads)
    codec = load_codec(model_dir)
    return OpenVinoEngine(model, codec, end_tokens(model_dir, codec), model_shape(model_dir), options)
