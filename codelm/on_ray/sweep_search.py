"""How the trials of a sweep are run by Ray Tune: the space, the search, the scheduler, and what is known afterwards."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.execution import class_cache
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, PopulationBasedTraining
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch

from codelm.config.sweep import Dimension, Sweep
from codelm.on_ray.sweep_order import NOTE, RECORD, TUNE, Order, steps_of
from codelm.on_ray.sweep_release import Releaser, release_all
from codelm.on_ray.sweep_trial import trial
from codelm.run_dir import read_json
from codelm.tracking import TrackedRun
from codelm.tuning.space import overridden
from codelm.tuning.trials import Trial

SNAPSHOT_SECONDS = "2"
"""Between two snapshots of Tune's state; a trial that ended since the last one is known by its own record."""

Tell = Callable[[str], None]


def search(order: Order, section: Sweep, at_once: int, tell: Tell) -> list[Trial]:
    """Run the trials that are not finished, and return what is known of all.

    Args:
        order: the same for all trials.
        section: what is searched, and how.
        at_once: trials at the same time.
        tell: called with a sentence for each trial that begins or ends.
    """
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = SNAPSHOT_SECONDS
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # only a trial's last report has pass@k
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    keep_keys_back()
    fs = order.run_dir.fs
    root = f"{order.workspace}/{TUNE}"
    # Tune refuses a request of nothing, and a share of a CPU would keep it from the workers.
    trainable = tune.with_resources(tune.with_parameters(trial, order=order), {"memory": 1024})
    space = {key: _domain(dimension) for key, dimension in section.space.items()}
    if Tuner.can_restore(root, storage_filesystem=fs):
        tell("going on with the sweep that was interrupted")
        tuner = Tuner.restore(root, trainable, resume_unfinished=True, param_space=space, storage_filesystem=fs)
    else:
        tuner = Tuner(
            trainable,
            param_space=space,
            tune_config=TuneConfig(
                num_samples=section.trials,
                search_alg=_search(section, at_once, order.experiment.seed),
                scheduler=_scheduler(section, space, order.experiment.seed),
                reuse_actors=False,
            ),
            run_config=RunConfig(
                name=TUNE,
                storage_path=order.workspace,
                storage_filesystem=fs,
                failure_config=FailureConfig(max_failures=section.retries),
                callbacks=[Narrator(tell, order)],
                verbose=0,
            ),
        )
    grid = tuner.fit()
    found = [_known(grid[place], order) for place in range(len(grid))]
    release_all(order, [known.name for known in found])
    for known in found:  # those of an interrupted sweep may have been left as they were
        end_run(order, known.name, known.state == "failed")
    return sorted(found, key=lambda trial: trial.name)


def keep_keys_back() -> None:
    """Have Ray Tune not copy the driver's storage keys to its trials: they would stand in the dashboard and in logs.

    The nodes have keys of their own, as for all other stages.
    """
    keys = {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
    class_cache.ENV_VARS_TO_PROPAGATE -= keys


def _domain(dimension: Dimension) -> Any:
    if dimension.kind == "choice":
        return tune.choice(list(dimension.values))
    if dimension.kind == "grid":
        return tune.grid_search(list(dimension.values))
    low, high = dimension.values
    return tune.uniform(low, high) if dimension.kind == "uniform" else tune.loguniform(low, high)


class ScoredAtTheEnd(OptunaSearch):
    """Optuna by a metric that only the last report of a trial has: it asks each report for it."""

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """See `Searcher.on_trial_result`."""
        if self.metric in result:
            super().on_trial_result(trial_id, result)


def _search(section: Sweep, at_once: int, seed: int) -> Any:
    """How values are drawn; it also bounds the trials at a time, which `TuneConfig` does for some searches only."""
    if section.search == "random":
        return BasicVariantGenerator(max_concurrent=at_once, random_state=seed)
    logging.getLogger("optuna").setLevel(logging.WARNING)
    mode = "min" if section.metric.endswith("loss") else "max"
    return ConcurrencyLimiter(ScoredAtTheEnd(metric=section.metric, mode=mode, seed=seed), max_concurrent=at_once)


def _scheduler(section: Sweep, space: dict[str, Any], seed: int) -> Any:
    judged: dict[str, Any] = {"time_attr": "percent", "metric": "validation_loss", "mode": "min"}
    first: Any = 100 * section.grace_share  # in per cent of a trial's own steps: a float, which its annotation denies
    if section.scheduler == "asha":
        return AsyncHyperBandScheduler(
            **judged,
            max_t=100,
            grace_period=first,
            reduction_factor=section.reduction,
            stop_last_trials=False,  # they end by themselves, with all that comes after the last step
        )
    if section.scheduler == "pbt":
        return PopulationBasedTraining(
            **judged,
            perturbation_interval=first,
            hyperparam_mutations=space,
            synch=False,
        )
    return FIFOScheduler()


class Narrator(Callback):
    """Tells on the terminal which trials begin and end, and ends the MLflow runs of those that are stopped."""

    def __init__(self, tell: Tell, order: Order) -> None:
        self._tell, self._order, self._releaser = tell, order, Releaser(order)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """See `ray.tune.Callback`, as for the others: called many times a second."""
        self._releaser.look(trials)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial begins, or goes on."""
        self._tell(f"trial {trial.trial_id}: {shown(trial.config)}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended by itself, or is stopped."""
        last = trial.last_result or {}
        self._tell(
            f"trial {trial.trial_id} ended at {last.get('percent', 0):.0f} % of its steps, "
            f"validation loss {last.get('validation_loss', float('nan')):.4f}",
        )
        end_run(self._order, trial.trial_id, failed=False)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed, with no retries left."""
        self._tell(f"trial {trial.trial_id} failed")
        end_run(self._order, trial.trial_id, failed=True)


def end_run(order: Order, name: str, failed: bool) -> None:
    """End the MLflow run of a trial that is over and could not do so itself: its process was ended."""
    fs, directory = order.run_dir.fs, order.directory(name)
    note = read_json(fs, f"{directory}/{NOTE}")
    if note is None or read_json(fs, f"{directory}/{RECORD}") is not None:
        return
    run = TrackedRun(order.tracked.uri, note["mlflow_run"])
    if not run.running():  # it would seem to have gone on until now
        return
    if failed:
        run.finish(succeeded=False)
    else:
        run.stop()


def shown(config: dict[str, Any]) -> str:
    """A trial's values by the ends of their keys: `learning_rate=0.0003`."""
    return ", ".join(
        f"{key.rpartition('.')[2]}={value:.4g}" if isinstance(value, float) else f"{key.rpartition('.')[2]}={value}"
        for key, value in config.items()
    )


def _known(result: Any, order: Order) -> Trial:
    """What is known of a trial: by its own record if it ended by itself, else by what Tune kept of its reports."""
    fs, metrics = order.run_dir.fs, result.metrics or {}
    name = metrics.get("trial_id") or Path(result.path).name
    directory = order.directory(name)
    record, note = read_json(fs, f"{directory}/{RECORD}"), read_json(fs, f"{directory}/{NOTE}") or {}
    config = dict(result.config or {})
    steps = steps_of(overridden(order.experiment, config), order)
    frame = result.metrics_dataframe
    curve: dict[int, float] = {}
    if frame is not None and "step" in frame:
        for step, loss, error in zip(
            frame["step"], frame["validation_loss"], frame.get("error", [None] * len(frame)), strict=True
        ):
            if not isinstance(error, str):
                curve[int(step)] = float(loss)
    base: dict[str, Any] = {"name": name, "overrides": config, "steps": steps, "mlflow_run": note.get("mlflow_run")}
    ordered = tuple(sorted(curve.items()))
    reached = ordered[-1][0] if ordered else 0
    if record is not None:
        reported = record["reported"]
        if "error" in reported:
            return Trial(**base, state="failed", step=reached, curve=ordered, error=reported["error"])
        return Trial(**base, state="finished", step=steps, curve=ordered, score=reported.get(order.metric))
    if result.error is not None:
        return Trial(**base, state="failed", step=reached, curve=ordered, error=str(result.error).splitlines()[-1])
    score = ordered[-1][1] if ordered and order.metric == "validation_loss" else None
    return Trial(**base, state="stopped", step=reached, curve=ordered, score=score)
