"""What decides about the trials of a sweep, without trials."""

from typing import Any

from ray import tune

from codelm.config.sweep import Sweep
from codelm.on_ray import sweep_search


def test_optuna_waits_for_a_metric_that_only_the_last_report_has() -> None:
    section = Sweep.model_validate(
        {"space": {"a": {"uniform": [0, 1]}}, "search": "optuna", "metric": "pass@1", "scheduler": "none"}
    )
    search: Any = sweep_search._search(section, 2, 0)
    search.set_search_properties(None, None, {"a": tune.uniform(0, 1)})
    for name, last in (("x", {"pass@1": 0.5}), ("y", {}), ("z", {"pass@1": 0.25})):
        assert set(search.suggest(name)) == {"a"}
        report = {"validation_loss": 1.0, "training_iteration": 1}
        search.on_trial_result(name, report)
        search.on_trial_complete(name, report | last)
    trials = search.searcher._ot_study.trials
    assert [(trial.state.name, trial.value) for trial in trials] == [
        ("COMPLETE", 0.5),
        ("PRUNED", None),
        ("COMPLETE", 0.25),
    ]
    assert search.searcher._ot_study.best_value == 0.5
