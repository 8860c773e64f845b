"""What the workers of a fine-tuning train on what."""

from codelm.finetuning.base import load_base
from codelm.finetuning.objective import solution_objective
from codelm.on_ray.assignment import Assignment
from codelm.on_ray.examples import base_model, settings
from codelm.on_ray.pretrain_worker import Work
from codelm.training.data import open_packed


def examples(assignment: Assignment) -> Work:
    """The pretrained model, with adapters where the config has them, and the published examples."""
    experiment = assignment.experiment
    section = settings(experiment)
    directory = assignment.run_dir.local_copy("examples")
    train, valid = open_packed(directory / "train"), open_packed(directory / "valid")
    source = base_model(experiment, assignment.run_dir)
    model = load_base(source, section.sequence_length, section.lora, experiment.seed)
    return Work(model, train, valid, solution_objective(train.info))
