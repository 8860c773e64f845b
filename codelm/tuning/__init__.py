"""Sweeps: search spaces over the config, and what came out of the trials."""
