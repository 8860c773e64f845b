"""The corpus stage: sources -> clean, deduplicated Parquet.

Ray Data reads the sources, once, block by block: each task annotates its files and keeps the texts that pass in a
store beside the result. Of the annotations only (band, id) rows cross the cluster, dealt out by band to tasks that
find shared bands. Groups of candidates are then judged, and shards written, by tasks that read texts from the store.
The driver holds a row without text for each file.

An interrupted run goes on: blocks and shards appear whole, and those that are there are not made again.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import ray

from codelm import __version__
from codelm.config import Corpus, Experiment
from codelm.console import progress, say
from codelm.corpus.annotate import TOKENIZER_FILE, Annotator
from codelm.corpus.base import OPT_OUT_INPUT, Base, check_base, open_base
from codelm.corpus.benchmarks import HUMANEVAL
from codelm.corpus.blocks import Listing
from codelm.corpus.card import card
from codelm.corpus.decontamination import load
from codelm.corpus.index import FILES_NAME, INDEX, REDACTED_NAME
from codelm.corpus.languages import LANGUAGES
from codelm.corpus.ledger import Decisions, decide, first_copies
from codelm.corpus.licences import assigned
from codelm.corpus.minhash import bands_and_rows
from codelm.corpus.opt_out import OPTED_OUT
from codelm.corpus.opt_out import load as load_opt_outs
from codelm.corpus.shards import cut, redaction_counts, write_json, write_table
from codelm.corpus.sources import check_source
from codelm.corpus.statistics import statistics
from codelm.corpus.text_store import PLACES, TextStore
from codelm.errors import UserError
from codelm.on_ray.corpus_reading import annotate, extend, with_texts
from codelm.on_ray.corpus_tasks import Published, draw_pictures, write_index_part, write_one_shard
from codelm.on_ray.near_dedup import near_duplicates
from codelm.on_ray.stage import Context, Outcome, Stage
from codelm.on_ray.stopwatch import Stopwatch
from codelm.on_ray.tasks import gather
from codelm.run_dir import digest_of

STORE = f"store-{__version__}"
"""The directory of texts and of what is not finished; it is not published, nor gone on with by another version."""
DATA = "data"
SHOWN_LINES = 10

_listings: list[tuple[Corpus, Listing]] = []
"""What `sources` has listed last, until `run` takes it: what is read is what was hashed, and is listed once."""


def check(experiment: Experiment) -> None:
    """Raise UserError for a language, source, benchmark, filter's tokenizer or number of permutations of no use."""
    unknown = [name for name in experiment.corpus.languages if name not in LANGUAGES]
    if unknown:
        raise UserError(f"corpus.languages: {unknown[0]!r} is not one of {', '.join(LANGUAGES)}")
    for source in experiment.corpus.sources:
        check_source(source, experiment.corpus)
    load(experiment.corpus.decontaminate)
    near_dedup = experiment.corpus.near_dedup
    if near_dedup.enabled:
        bands_and_rows(near_dedup.threshold, near_dedup.permutations)
    if experiment.corpus.opt_out is not None:
        load_opt_outs(experiment.corpus.opt_out)
    directory = experiment.corpus.filters.tokenizer
    if directory is not None and not (Path(directory) / TOKENIZER_FILE).is_file():
        raise UserError(
            f"corpus.filters.tokenizer: no {TOKENIZER_FILE} in {directory!r}. Name a directory that the tokenizer "
            "stage or `save_pretrained` made, or leave it out."
        )
    if experiment.corpus.extends is not None:
        base = open_base(experiment.corpus.extends)
        check_base(base, STAGE.config(experiment), _settings(experiment.corpus), __version__)


def sources(experiment: Experiment) -> dict[str, str]:
    """Digests of the sources' listings, of benchmarks and of the filter's tokenizer."""
    corpus = experiment.corpus
    listing = Listing.of(corpus)
    _listings[:] = [(corpus, listing)]
    digests = {f"source {source}": listing.digests[source] for source in corpus.sources}
    digests |= _settings(corpus)
    if corpus.opt_out is not None:
        digests[OPT_OUT_INPUT] = _digest(corpus.opt_out)
    return digests


def _settings(corpus: Corpus) -> dict[str, str]:
    """Digests of benchmarks and of the filter's tokenizer."""
    digests = {}
    if corpus.filters.tokenizer is not None:
        digests["filter tokenizer"] = digest_of((Path(corpus.filters.tokenizer) / TOKENIZER_FILE).read_text())
    for name in corpus.decontaminate:
        if name != HUMANEVAL:
            digests[f"benchmark {name}"] = _digest(name)
    return digests


def _digest(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _listed(corpus: Corpus) -> Listing:
    while _listings:
        known, listing = _listings.pop()
        if known == corpus:
            return listing
    return Listing.of(corpus)


def run(context: Context) -> Outcome:
    """Make the corpus in the context's workspace."""
    experiment, corpus = context.experiment, context.experiment.corpus
    fs, directory = context.run_dir.fs, f"{context.workspace}/{STORE}"
    _clear(fs, context.workspace)
    base = None if corpus.extends is None else open_base(corpus.extends)
    store = TextStore(context.run_dir, directory, None if base is None else (base.run_dir, base.path))
    annotator, clock, read_again = Annotator(corpus, experiment.seed), Stopwatch(), 0
    say("corpus", f"reading {', '.join(corpus.sources)}")
    if base is None:
        found = annotate(annotator, store, _listed(corpus))
    else:
        opt_outs = None if corpus.opt_out is None else load_opt_outs(corpus.opt_out)
        listed = {} if corpus.opt_out is None else {OPT_OUT_INPUT: _digest(corpus.opt_out)}
        same_list = listed.get(OPT_OUT_INPUT) == base.manifest.inputs.get(OPT_OUT_INPUT)
        found = extend(annotator, store, _listed(corpus), base, opt_outs, same_list)
    files = assigned(found.files, corpus.licences == "permissive")
    clock.lap("read and filter")
    verdicts = near_duplicates(files, found.members, corpus, store)
    clock.lap("compare")
    decisions = decide(files, verdicts)
    if base is not None:
        kept, read_again = with_texts(decisions.kept, annotator, store, base)
        decisions = replace(decisions, kept=kept)
    figures = statistics(files, verdicts, decisions.kept)
    clock.lap("decide")
    dropped = {reason: entry["files"] for reason, entry in decisions.ledger["dropped"].items()}
    explanation = ", ".join(
        f"{reason} {count:,}" for reason, count in sorted(dropped.items(), key=lambda item: -item[1])
    )
    if not len(decisions.kept):
        raise UserError(f"corpus: no file is kept ({explanation}); loosen corpus.filters or name other sources")
    say("corpus", f"{len(decisions.kept):,} files kept; dropped: {explanation or 'none'}")
    redacted = _write(context, decisions, figures, store, base)
    if corpus.keep_index:
        _write_index(context, found.files, redacted, store)
    fs.delete_dir(directory)
    clock.lap("write")
    ledger = decisions.ledger
    removed = verdicts.filter(pc.is_valid(verdicts["witness"]))
    return Outcome(
        metrics={
            "files_in": ledger["input"]["files"],
            "bytes_in": ledger["input"]["bytes"],
            "files_kept": ledger["kept"]["files"],
            "bytes_kept": ledger["kept"]["bytes"],
            "dropped": dropped,
            "near_duplicate_clusters": pc.count_distinct(removed["cluster"]).as_py(),
        },
        facts={
            "phases": clock.laps,
            "files_read": found.read,
            "files_read_again": read_again,
            "files_not_read": len(found.files) - found.read,
        },
    )


def _clear(fs: pafs.FileSystem, workspace: str) -> None:
    """Remove what an interrupted run left, but for texts, annotations and shards; and make room for these."""
    for name in (STORE, DATA):
        fs.create_dir(f"{workspace}/{name}", recursive=True)
    for info in fs.get_file_info(pafs.FileSelector(workspace)):
        if info.base_name not in (STORE, DATA):
            (fs.delete_dir if info.type == pafs.FileType.Directory else fs.delete_file)(info.path)


def _write_index(context: Context, files: pa.Table, redacted: pa.Table, store: TextStore) -> None:
    """Write what a later corpus needs to extend this one.

    Args:
        context: of the stage.
        files: annotations of all files, with `PLACES`, before licences were told from evidence.
        redacted: `REDACTED` rows of the kept files.
        store: has the texts.
    """
    experiment, fs, workspace = context.experiment, context.run_dir.fs, context.workspace
    fs.create_dir(f"{workspace}/{INDEX}")
    write_table(fs, f"{workspace}/{FILES_NAME}", files.drop_columns(PLACES.names), arrow_types=True)
    write_table(fs, f"{workspace}/{REDACTED_NAME}", redacted, arrow_types=True)
    texts = first_copies(files).select(["id", "text_bytes", *PLACES.names]).sort_by("id")
    settings = experiment.corpus.near_dedup
    parts = cut(texts, experiment.corpus.shards)
    gather([write_index_part.remote(store, number, part, settings) for number, part in enumerate(parts)])


def _write(
    context: Context, decisions: Decisions, figures: dict[str, Any], store: TextStore, base: Base | None
) -> pa.Table:
    """Write shards, the list of dropped files, the ledger, figures and pictures, and the card; the `REDACTED` rows."""
    experiment, fs, workspace = context.experiment, context.run_dir.fs, context.workspace
    shards = cut(decisions.kept, experiment.corpus.shards)
    seed = experiment.seed if experiment.corpus.redact else None
    published: Any = None if base is None else ray.put(Published(base.shards, base.redacted()))
    tasks = [write_one_shard.remote(store, number, shard, seed, published) for number, shard in enumerate(shards)]
    drawing = draw_pictures.remote(decisions.ledger, figures)
    written = 0
    with progress("corpus", "files", len(decisions.kept)) as advance:

        def finished(place: int) -> None:
            nonlocal written
            written += len(shards[place])
            advance(written, "written")

        redacted = pa.concat_tables(gather(tasks, finished))
    ledger = {**decisions.ledger, "redacted": redaction_counts(redacted)}
    write_table(fs, f"{workspace}/dropped.parquet", decisions.dropped)
    write_json(fs, f"{workspace}/ledger.json", ledger)
    report = {**figures, "opt_outs": _opt_outs(experiment.corpus, decisions.dropped)}
    write_json(fs, f"{workspace}/report.json", report)
    [drawn] = gather([drawing])
    fs.create_dir(f"{workspace}/pictures")
    readme = card(experiment.corpus.model_copy(update={"extends": None}), experiment.seed, ledger, figures, drawn)
    for name, data in {"README.md": readme.encode(), **{f"pictures/{name}": drawn[name] for name in drawn}}.items():
        with fs.open_output_stream(f"{workspace}/{name}") as out:
            out.write(data)
    return redacted


def _opt_outs(corpus: Corpus, dropped: pa.Table) -> dict[str, Any]:
    """How many lines of the opt-out list matched a file, and which did not."""
    if corpus.opt_out is None:
        return {}
    listed = load_opt_outs(corpus.opt_out)
    witnesses = pc.unique(dropped.filter(pc.equal(dropped["reason"], OPTED_OUT))["witness"]).to_pylist()
    unmatched = listed.unmatched(int(witness.removeprefix("line ")) for witness in witnesses)
    if unmatched:
        lines = ", ".join(map(str, unmatched[:SHOWN_LINES])) + (", ..." if len(unmatched) > SHOWN_LINES else "")
        say("corpus", f"corpus.opt_out: {len(unmatched):,} lines of {corpus.opt_out} match no file: {lines}")
    return {"lines": len(listed.entries), "unmatched_lines": unmatched}


STAGE = Stage(
    name="corpus",
    inputs=(),
    config=lambda experiment: {
        # What it extends changes how fast a corpus is made, not what it is.
        "corpus": experiment.corpus.model_dump(mode="json", exclude={"extends"}),
        "seed": experiment.seed,
    },
    run=run,
    check=check,
    sources=sources,
    continues=True,
)
