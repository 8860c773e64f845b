"""The experiment: one YAML file, checked as a whole before anything starts.

`load(path, overrides)` reads a file and applies dotted overrides (`training.learning_rate=3e-4`), the
same for the command line, for jobs and for sweeps. Every model is frozen; an unknown key is an error
that names the nearest valid one.
"""

from codelm.config.corpus import PRESETS, Corpus, FilterName, Filters, NearDedup
from codelm.config.evaluation import Evaluation, Sandbox
from codelm.config.experiment import Experiment
from codelm.config.loading import load, nearest, parse, to_yaml, valid_keys
from codelm.config.model import Data, Model, Tokenizer
from codelm.config.running import Cluster, Serving, Tracking
from codelm.config.training import Training

__all__ = [
    "PRESETS",
    "Cluster",
    "Corpus",
    "Data",
    "Evaluation",
    "Experiment",
    "FilterName",
    "Filters",
    "Model",
    "NearDedup",
    "Sandbox",
    "Serving",
    "Tokenizer",
    "Tracking",
    "Training",
    "load",
    "nearest",
    "parse",
    "to_yaml",
    "valid_keys",
]
