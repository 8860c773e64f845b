"""Benchmarks, samples, verdicts and pass@k."""
