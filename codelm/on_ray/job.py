"""What every entry point of `ray_jobs` does: `python -m ray_jobs.STAGE CONFIG [--set key=value ...]`."""

import argparse
from pathlib import Path

from codelm import config
from codelm.config import Experiment
from codelm.console import say
from codelm.errors import exit_on_user_error
from codelm.on_ray import pipeline
from codelm.on_ray.packages import check_packages
from codelm.summary import stage_result, summarise


def main(stage: str | None) -> None:
    """Run one stage, or with None all of them, with the config named on the command line.

    Exit status 2 and a sentence on standard error where the input is wrong.
    """
    parser = argparse.ArgumentParser(prog=f"python -m ray_jobs.{stage or 'pipeline'}")
    parser.add_argument("config", help="the experiment's YAML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key; repeatable")
    arguments = parser.parse_args()
    with exit_on_user_error():
        check_packages(Path("pyproject.toml"))
        experiment = at_a_lasting_place(config.load(arguments.config, arguments.set))
        manifests = pipeline.run(experiment, pipeline.with_examples(stage, experiment) if stage else None)
        print(stage_result(manifests[stage]) if stage else summarise(experiment, manifests, arguments.config))


def at_a_lasting_place(experiment: Experiment) -> Experiment:
    """The experiment with a relative run_dir put under the home directory of the node that runs the job.

    A job's current directory is a copy of the uploaded one, which Ray deletes when no job uses it any more.
    """
    if "://" in experiment.run_dir or Path(experiment.run_dir).is_absolute():
        return experiment
    run_dir = str(Path.home() / "codelm" / experiment.run_dir)
    say("job", f"run_dir {experiment.run_dir!r} is relative: using {run_dir} on this node; --set run_dir=... to choose")
    return experiment.model_copy(update={"run_dir": run_dir})
