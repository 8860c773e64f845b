"""Stage `pretrain`: train a model from scratch on the packed corpus with Ray Train."""

import logging
import math
import os
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import Any

import pyarrow.fs as pafs
import ray
from ray.exceptions import RayActorError

from codelm.config import Experiment
from codelm.console import say
from codelm.corpus.shards import read_documents, shard_paths
from codelm.errors import UserError
from codelm.modeling.source import check_source
from codelm.on_ray.assignment import CHECKPOINTS as CHECKPOINTS
from codelm.on_ray.assignment import Assignment, train
from codelm.on_ray.devices import check_resources, refuse_offload, resolve_accelerator, scaling, tell_of_a_wait
from codelm.on_ray.progress import board
from codelm.on_ray.stage import Context, Outcome, Stage
from codelm.on_ray.worker_groups import free_group
from codelm.records import SPECIAL_TOKENS
from codelm.run_dir import RunDir
from codelm.tokenization import bpe
from codelm.tracking import TrackedRun

NOT_PART_OF_THE_RESULT = frozenset(
    {
        "log_every",
        "checkpoint_every",
        "keep_checkpoints",
        "max_failures",
        "workers",
        "min_workers",
        "micro_batch_size",
        "offload_optimizer",
    }
)
"""Keys of the section `training` that may change between an interruption and the rerun. How many workers share the work
changes no more than the order of sums."""

PACKED_CORPUS = "codelm.on_ray.pretrain_worker:packed_corpus"
STREAMED_CORPUS = "codelm.on_ray.pretrain_worker:streamed_corpus"

RAY_TRAIN = {
    # Ray gives workers 60 s to start and then starts all of them again, without end where a busy machine or a slow
    # disk takes longer to load torch.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    # Ray looks every two seconds whether the workers have ended or reported.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",
}
"""Environment of Ray Train's controller, where the user's has nothing else."""

ELASTIC_START_SECONDS = "120"
"""In place of the 600 where fewer workers will do: for some seconds after a node is lost Ray Train still counts its
CPUs, asks for as many workers as before, and waits so long for them."""


def run(context: Context) -> Outcome:
    """Train, going on from the last complete checkpoint if there is one."""
    try:
        prepare = corpus_of(context.experiment)
        told = fit(context.experiment, context.run_dir, context.workspace, prepare, context.tracked, "pretrain")
    except Diverged as error:
        if context.experiment.data.streaming:
            raise
        batch = _offending(context, error.samples)
        raise UserError(f"{error}. {batch[0].upper()}{batch[1:]}. The last checkpoint before is kept.") from error
    return summed_up(context.experiment, context.run_dir.fs, context.workspace, told)


def corpus_of(experiment: Experiment) -> str:
    """What the workers train on, as `fit` takes it."""
    return STREAMED_CORPUS if experiment.data.streaming else PACKED_CORPUS


class Diverged(UserError):
    """A loss or a gradient was no finite number.

    Attributes:
        samples: the sequences concerned.
    """

    def __init__(self, text: str, samples: list[int]) -> None:
        super().__init__(text)
        self.samples = samples


def fit(
    experiment: Experiment,
    run_dir: RunDir,
    workspace: str,
    prepare: str,
    tracked: TrackedRun,
    stage: str,
    keep_best: bool = False,
    start: str | None = None,
) -> dict[str, Any]:
    """Train with Ray Train by `experiment.training`, going on from the workspace's last complete checkpoint.

    Args:
        experiment: the whole config.
        run_dir: where the inputs are.
        workspace: where the weights go, in terms of `run_dir.fs`.
        prepare: `module:function` of what the workers train on what: `Assignment -> Work`.
        tracked: gets the curve.
        stage: whose work it is, for the terminal.
        keep_best: write the weights with the lowest validation loss, rather than the last.
        start: a checkpoint to begin with where the workspace has none.

    Returns:
        What rank 0 told (`codelm.on_ray.pretrain_worker.train`).

    Raises:
        Diverged: the loss or the gradient was no finite number.
        UserError: the training cannot go on otherwise, and a restart would not mend it.
    """
    began = time.time()
    # They load torch, which takes seconds that the check of the other stages need not wait for.
    from ray.train import CheckpointConfig, FailureConfig, RunConfig
    from ray.train.torch import TorchTrainer

    from codelm.on_ray.process_group import NodeNetwork

    fs, training = run_dir.fs, experiment.training
    accelerator = resolve_accelerator(experiment)
    refuse_offload(training, accelerator, "training")
    tell_of_a_wait(stage, training.workers, accelerator)
    root = f"{workspace}/{CHECKPOINTS}"
    if training.min_workers is not None:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", ELASTIC_START_SECONDS)
    for variable, value in RAY_TRAIN.items():
        os.environ.setdefault(variable, value)
    if len(ray.nodes()) == 1:  # nobody takes away the driver's own machine: an actor less to start
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    make_trainer: Any = TorchTrainer  # its annotations are those of Ray Train V1
    with board(stage, "steps", training.steps) as progress:

        def attempt() -> dict[str, Any]:
            _delete_attempts(fs, root, training.keep_checkpoints)
            assignment = Assignment(experiment, run_dir, workspace, accelerator, start, prepare, keep_best, began)
            trainer = make_trainer(
                train,
                train_loop_config={"assignment": assignment, "tracked": tracked, "board": progress},
                torch_config=NodeNetwork(),
                scaling_config=scaling(experiment, accelerator),
                run_config=RunConfig(
                    # Ray resumes a run of an equal name from a snapshot that it rewrites in place, so that a kill
                    # at the wrong moment leaves half of one. A name of its own for each try leaves that out.
                    name=f"attempt-{uuid.uuid4().hex}",
                    storage_path=root,
                    storage_filesystem=fs,
                    failure_config=FailureConfig(max_failures=training.max_failures),
                    checkpoint_config=CheckpointConfig(num_to_keep=training.keep_checkpoints),
                ),
            )
            logging.getLogger("ray.train").setLevel(logging.ERROR)
            told: dict[str, Any] = _outside_the_main_thread(trainer.fit).return_value
            return told

        free = partial(free_group, fs, workspace)
        told = _in_spite_of_lost_controllers(attempt, free, stage, training.max_failures)
        free()
    if "error" in told:
        raise Diverged(told["error"], told["samples"]) if told["samples"] else UserError(told["error"])
    return told


def _in_spite_of_lost_controllers(
    attempt: Callable[[], dict[str, Any]], free: Callable[[], None], stage: str, failures: int
) -> dict[str, Any]:
    """Try again where Ray Train's controller is lost, which restarts lost workers, but nobody it; free its workers."""
    for _ in range(failures):
        try:
            return attempt()
        except RayActorError:
            say(stage, "Ray Train's controller was lost; going on from the last checkpoint")
            free()
    return attempt()


def _offending(context: Context, samples: list[int]) -> str:
    """The sequences of a batch, and the files that they stem from."""
    from codelm.training.data import open_packed
    from codelm.training.offending import described, files_with, texts

    tokenizer = bpe.plain((context.local_input("tokenizer") / bpe.TOKENIZER_FILE).read_text())
    packed = open_packed(context.local_input("pack") / "train")
    special = {token for token in map(tokenizer.token_to_id, SPECIAL_TOKENS) if token is not None}
    rows = (packed.tokens[number].tolist() for number in samples)
    wanted = [text for row in rows for text in texts(tokenizer, row, special, packed.info["eos_id"])]
    fs, corpus = context.run_dir.fs, context.run_dir.path("corpus")
    documents = (document for path in shard_paths(fs, corpus) for document in read_documents(fs, path))
    return described(samples, files_with(wanted, documents))


def summed_up(experiment: Experiment, fs: pafs.FileSystem, workspace: str, told: dict[str, Any]) -> Outcome:
    """Write the curve and its picture, delete the checkpoints, and return the figures."""
    from codelm.training.curve import Point, draw, to_lines, validations

    training = experiment.training
    curve = [Point(*values) for values in told["curve"]]
    entropy = told["unigram_entropy"]
    with fs.open_output_stream(f"{workspace}/curve.jsonl") as out:
        out.write(to_lines(curve).encode())
    with fs.open_output_stream(f"{workspace}/loss_curve.png") as out:
        draw(curve, entropy, out)
    fs.delete_dir(f"{workspace}/{CHECKPOINTS}")
    measured = validations(curve)
    tokens = training.steps * training.batch_size * told["sequence_length"]
    return Outcome(
        metrics={
            "parameters": told["parameters"],
            "steps": training.steps,
            "tokens": tokens,
            "epochs": round(tokens / told["training_tokens"], 4) if told["training_tokens"] else None,
            "initial_validation_loss": measured[0][1],
            "validation_loss": measured[-1][1],
            "validation_perplexity": math.exp(measured[-1][1]),
            "unigram_entropy": entropy,
            "samples_sha256": told["samples_sha256"],
        },
        facts={"engine": training.engine, **told["facts"]},
    )


def check(experiment: Experiment) -> None:
    """Refuse what this machine cannot do, if the training is to run on it, and what no machine can."""
    if experiment.model.pretrained is not None:
        check_source("model.pretrained", experiment.model.pretrained)
    check_resources(experiment, "training")


def _delete_attempts(fs: pafs.FileSystem, root: str, keep: int) -> None:
    """Delete what earlier tries have left, but those with one of the last checkpoints that look whole."""
    from codelm.training.checkpoint import checkpoints, damage  # with torch, as above

    whole = (path for path in checkpoints(fs, root) if damage(fs, path, thorough=False) is None)
    kept = {path.rpartition("/")[0] for path in islice(whole, keep)}
    for info in fs.get_file_info(pafs.FileSelector(root, allow_not_found=True)):
        if info.type == pafs.FileType.Directory and info.path not in kept:
            fs.delete_dir(info.path)


def _outside_the_main_thread(call: Callable[[], Any]) -> Any:
    """Call, and return or raise what it does. In the main thread Ray Train takes Ctrl-C over, for good."""
    outcome: Future[Any] = Future()

    def run_it() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            outcome.set_exception(error)

    threading.Thread(target=run_it, name="pretrain", daemon=True).start()
    return outcome.result()


STAGE = Stage(
    name="pretrain",
    inputs=lambda experiment: ("pack", "tokenizer", *(["corpus"] if experiment.data.streaming else [])),
    config=lambda experiment: {
        "seed": experiment.seed,
        "accelerator": experiment.accelerator,
        "sequence_length": experiment.data.sequence_length,
        "isolate_documents": experiment.data.isolate_documents,
        **({"data": experiment.data.model_dump(mode="json")} if experiment.data.streaming else {}),
        "model": experiment.model.model_dump(mode="json"),
        "training": experiment.training.model_dump(mode="json", exclude=set(NOT_PART_OF_THE_RESULT)),
    },
    run=run,
    check=check,
    continues=True,
    costly=True,
)
