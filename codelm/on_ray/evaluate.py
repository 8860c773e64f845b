"""Stage `evaluate`: samples for a benchmark, judged, and pass@k.

First the benchmark's own solutions are judged: if they do not pass, no verdict can be trusted. What an interrupted
run had finished is kept, and neither that nor the number of workers changes the result.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from codelm.config import Evaluation, Experiment
from codelm.console import progress, say
from codelm.errors import UserError
from codelm.evaluation import html, report
from codelm.evaluation.benchmarks import catalogue
from codelm.evaluation.generation import jobs_of, prompt_ids, units
from codelm.evaluation.judging import Rules
from codelm.evaluation.parts import Parts
from codelm.evaluation.samples import RESULTS_FILE, SAMPLES_FILE, result_line, sample_record
from codelm.inference.codec import load_codec
from codelm.inference.engine import choose_engine, model_positions
from codelm.on_ray.cluster import starts_here
from codelm.on_ray.evaluation_workers import Workers
from codelm.on_ray.sampling import cluster_gpus
from codelm.on_ray.stage import Context, Outcome, Stage
from codelm.on_ray.stopwatch import Stopwatch
from codelm.records import Problem, Sample
from codelm.sandbox import probe

NAME = "evaluate"


def check(experiment: Experiment) -> None:
    """Refuse what the model has no positions for, problems that can't be read, and a machine that lacks a layer."""
    evaluation, positions = experiment.evaluation, experiment.model.max_positions
    if evaluation.max_new_tokens >= positions:
        raise UserError(
            f"evaluation.max_new_tokens: {evaluation.max_new_tokens} leaves no room for a prompt in "
            f"model.max_positions = {positions}; lower the first"
        )
    benchmark_problems(evaluation, experiment.seed)
    if starts_here(experiment.cluster):
        probe.required(evaluation.sandbox.require)


@lru_cache(maxsize=1)
def benchmark_problems(evaluation: Evaluation, seed: int) -> tuple[Problem, ...]:
    """The problems that an evaluation asks for, before the first so many are taken of them."""
    return tuple(
        catalogue.load(
            evaluation.benchmark,
            evaluation.source,
            prompt=evaluation.prompt,
            mbpp_prompt=evaluation.mbpp_prompt,
            languages=evaluation.languages,
            difficulties=evaluation.difficulties,
            seed=seed,
            require=evaluation.sandbox.require,
        )
    )


def run(context: Context) -> Outcome:
    """Judge the canonical solutions, generate the samples, judge them, and sum up."""
    evaluation, seed = context.experiment.evaluation, context.experiment.seed
    problems = benchmark_problems(evaluation, seed)
    chosen = problems[: evaluation.problems]
    parts = Parts(context.run_dir.fs, context.workspace)
    limits = catalogue.limits(evaluation.benchmark, evaluation.timeout_seconds, evaluation.memory_mb)
    rules = Rules(limits, evaluation.sandbox.mode, evaluation.sandbox.require)
    name = catalogue.label(evaluation)
    seconds = Stopwatch()
    own = [
        Sample(problem.task_id, 0, problem.canonical_solutions[0])
        for problem in (problems if len(problems) <= catalogue.FEW_PROBLEMS else chosen)
        if problem.canonical_solutions
    ]
    with Workers(context.experiment, context.run_dir, rules, problems) as workers:
        canonical = workers.judge(own, parts, "canonical")
        canonical_passed = _check_canonical(own, canonical.lines, evaluation.canonical)
        seconds.lap("canonical_seconds")
        samples = _sampled(context, chosen, workers, parts)
        seconds.lap("generate_seconds")
        judgement = workers.judge(samples, parts, "verdicts")
    seconds.lap("judge_seconds")

    _write(context, "canonical_results.jsonl", _results(own, canonical.lines))
    each = len(chosen) * evaluation.samples
    by_temperature, runs = {}, []
    for number, temperature in enumerate(evaluation.temperatures):
        some = slice(number * each, (number + 1) * each)
        suffix = f"-t{temperature:g}" if len(evaluation.temperatures) > 1 else ""
        _write(context, SAMPLES_FILE.replace(".", f"{suffix}.", 1), _samples(samples[some]))
        _write(context, RESULTS_FILE.replace(".", f"{suffix}.", 1), _results(samples[some], judgement.lines[some]))
        pairs = list(zip(samples[some], map(json.loads, judgement.lines[some]), strict=True))
        by_temperature[f"{temperature:g}"] = report.figures(chosen, report.tally(chosen, pairs), evaluation.k, seed)
        runs.append(html.Run(f"temperature {temperature:g}", pairs))
    metrics = {
        "benchmark": name,
        **_metrics(by_temperature),
        "distinct_programs": judgement.distinct,
        "engine": _engine(context),
        "canonical_passed": canonical_passed,
        "canonical_total": len(own),
    }
    _write(context, "metrics.json", [json.dumps(metrics, indent=2, sort_keys=True) + "\n"])
    title = f"{context.experiment.name}: {name}"
    _write(context, "report.html", [html.page(title, evaluation.benchmark, chosen, runs, metrics)])
    seconds.lap("report_seconds")
    parts.forget()
    return Outcome(metrics, {**seconds.laps, "sandbox_layers": judgement.layers, "sandbox_mode": rules.mode})


def _metrics(by_temperature: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The figures of the one temperature; of a sweep, each of them and the best for each k."""
    first = next(iter(by_temperature.values()))
    if len(by_temperature) == 1:
        return first
    shared = {name: first[name] for name in ("problems", "samples")}
    return {**shared, "pass_at_k": report.best_per_k(by_temperature), "by_temperature": dict(by_temperature)}


def _sampled(context: Context, chosen: Sequence[Problem], workers: Workers, parts: Parts) -> list[Sample]:
    """Generate the samples: by temperature, then in the order of the problems, then by index."""
    evaluation = context.experiment.evaluation
    model = context.local_input(context.experiment.model_stage)
    codec, room = load_codec(model), model_positions(model) - evaluation.max_new_tokens
    prompts = {problem.task_id: prompt_ids(codec, problem, room) for problem in chosen}
    cut = sum(len(prompt) == room for prompt in prompts.values())
    if cut:
        say(
            NAME,
            f"{cut} of {len(chosen)} prompts fill the model's positions: what is over was cut from their beginning",
        )
    jobs = jobs_of(prompts, evaluation.temperatures, evaluation.samples)

    def work(todo: Sequence[int]) -> Iterator[tuple[int, str]]:
        return workers.generate(jobs, units(jobs, todo, evaluation.batch_size))

    with progress(NAME, "samples", len(jobs)) as advance:
        made = parts.make("samples", len(jobs), work, lambda done: advance(done, ""))
    return [
        Sample(job.task_id, job.index, json.loads(line)["completion"]) for job, line in zip(jobs, made, strict=True)
    ]


def _engine(context: Context) -> str:
    """The name of the engine that the workers took."""
    device = "cuda" if cluster_gpus(context.experiment) else "cpu"
    model = context.local_input(context.experiment.model_stage)
    return choose_engine(context.experiment.evaluation.engine, model, device).name


def _check_canonical(own: Sequence[Sample], lines: Sequence[str], wanted: str) -> int:
    """How many canonical solutions passed.

    Raises:
        UserError: not all of them, where all are wanted: no verdict can be trusted.
    """
    verdicts = [json.loads(line) for line in lines]
    failed = [
        f"{sample.task_id}: {verdict['result']}"
        for sample, verdict in zip(own, verdicts, strict=True)
        if not verdict["passed"]
    ]
    if failed:
        text = f"{len(failed)} of {len(own)} canonical solutions do not pass; first {failed[0]}"
        if wanted == "all":
            raise UserError(
                f"{text}. No verdict can be trusted then: raise evaluation.timeout_seconds or evaluation.memory_mb; "
                "where the benchmark itself is at fault, evaluation.canonical=report goes on"
            )
        say(NAME, text)
    return len(own) - len(failed)


def _samples(samples: Iterable[Sample]) -> Iterator[str]:
    return (json.dumps(sample_record(sample)) + "\n" for sample in samples)


def _results(samples: Sequence[Sample], lines: Sequence[str]) -> Iterator[str]:
    for sample, line in zip(samples, lines, strict=True):
        yield result_line(sample_record(sample), json.loads(line))


def _write(context: Context, name: str, lines: Iterable[str]) -> None:
    context.run_dir.fs.create_dir(context.workspace, recursive=True)
    with context.run_dir.fs.open_output_stream(f"{context.workspace}/{name}") as out:
        for line in lines:
            out.write(line.encode())


STAGE = Stage(
    name=NAME,
    inputs=lambda experiment: (experiment.model_stage,),
    config=lambda experiment: {
        "seed": experiment.seed,
        # Where programs run does not decide what comes of them.
        "evaluation": experiment.evaluation.model_dump(mode="json", exclude={"sandbox": {"nodes"}}),
    },
    run=run,
    check=check,
    continues=True,
)
