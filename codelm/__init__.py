"""codelm: train, evaluate and serve code-completion models on a Ray cluster."""

__version__ = "0.1.0"
