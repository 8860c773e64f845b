"""`codelm`: the whole pipeline, one command a stage, and what helps around them.

Ray, torch and MLflow are imported by the commands that need them, so that help and config errors are instant.
"""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from codelm import __version__, config
from codelm.config.engines import Precision
from codelm.errors import exit_on_user_error

STAGE_HELP = {
    "corpus": "Read source files, filter them, remove exact and near duplicates, write Parquet and a ledger.",
    "tokenizer": "Train a byte-level BPE tokenizer with fill-in-the-middle tokens on the training files.",
    "pack": "Tokenise the corpus into training and validation sequences.",
    "pretrain": "Train a model from scratch with Ray Train; an interrupted run goes on where it stopped.",
    "export": "Write the trained model as a plain Hugging Face directory with a model card.",
    "examples": "Read prompts and solutions, or functions of the corpus, and encode them for fine-tuning.",
    "finetune": "Fine-tune a model on prompts and solutions, with the loss on solutions alone; reads them first.",
    "sweep": "Search the config for the best fine-tuning or pretraining with Ray Tune.",
    "evaluate": "Sample completions for HumanEval, run them isolated from each other, and report pass@k.",
    "endpoint": "Start the completion endpoint, make one real request, keep the answer, stop it again.",
}

STAGES_PANEL = "Stages, in order"

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="The experiment's YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one key, such as training.steps=100. Repeatable."),
]
Redo = Annotated[
    str | None,
    typer.Option(metavar="STAGE", help="Make this stage and all that follow it again, even if finished."),
]
RedoThis = Annotated[bool, typer.Option("--redo", help="Make it again, and drop what was made from it.")]


class StagesInOrder(TyperGroup):
    """Lists the stages as they follow each other, whatever kind of command they are."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, stages last."""
        names = super().list_commands(ctx)
        return [name for name in names if name not in STAGE_HELP] + [name for name in STAGE_HELP if name in names]


app = typer.Typer(
    cls=StagesInOrder,
    help="Train, evaluate and serve code-completion models on a Ray cluster.",
    epilog="Start with: codelm pipeline ray_jobs/configs/quickstart.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The `codelm` program."""
    with exit_on_user_error():
        app(prog_name="codelm")


@app.command()
def pipeline(path: ConfigPath, overrides: Overrides = None, redo: Redo = None) -> None:
    """Run every stage in order and print a summary; finished stages are skipped."""
    experiment = config.load(path, overrides or [])
    from codelm.on_ray import pipeline as stages
    from codelm.summary import summarise

    manifests = stages.run(experiment, redo=redo)
    typer.echo(summarise(experiment, manifests, _as_typed(path, overrides)))


def _as_typed(path: Path, overrides: list[str] | None) -> str:
    return shlex.join([str(path), *(part for item in overrides or [] for part in ("--set", item))])


def _stage_command(name: str) -> Callable[..., None]:
    def command(path: ConfigPath, overrides: Overrides = None, redo: RedoThis = False) -> None:
        experiment = config.load(path, overrides or [])
        from codelm.on_ray import pipeline as stages
        from codelm.summary import next_step, stage_result

        manifests = stages.run(experiment, stages.with_examples(name, experiment), redo=name if redo else None)
        typer.echo(stage_result(manifests[name]))
        typer.echo(next_step(name, _as_typed(path, overrides)))

    return command


class StageWithCommands(TyperGroup):
    """A stage with commands of its own: `codelm corpus CONFIG` makes it, `codelm corpus inspect ...` looks at it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take what names no command for the arguments of `make`."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["make", *args]
        return super().parse_args(ctx, args)


corpus = typer.Typer(
    cls=StageWithCommands,
    help=f"{STAGE_HELP['corpus']} Same as `corpus make`: codelm corpus CONFIG [--set KEY=VALUE] [--redo]",
    no_args_is_help=True,
)
corpus.command("make", help=STAGE_HELP["corpus"])(_stage_command("corpus"))
app.add_typer(corpus, name="corpus", rich_help_panel=STAGES_PANEL)

for _name, _help in STAGE_HELP.items():
    if _name not in ("corpus", "export"):
        app.command(_name, help=_help, rich_help_panel=STAGES_PANEL)(_stage_command(_name))


@app.command("export", help=STAGE_HELP["export"], rich_help_panel=STAGES_PANEL)
def export(
    path: ConfigPath,
    overrides: Overrides = None,
    redo: RedoThis = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="Also upload the model to the Hugging Face hub (HF_TOKEN)."),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="A repository made there is public.")] = False,
) -> None:
    """Run the stage, and push what it made where that is asked for."""
    _stage_command("export")(path, overrides, redo)
    if push_to_hub is not None:
        from codelm.modeling.publishing import push_to_hub as push
        from codelm.run_dir import RunDir

        directory = RunDir(config.load(path, overrides or []).run_dir).local_copy("model")
        typer.echo(f"pushed: {push(directory, push_to_hub, public)}")


@corpus.command("inspect")
def corpus_inspect(
    where: Annotated[str, typer.Argument(metavar="RUN_DIR|CONFIG", help="Where the corpus is.")],
    what: Annotated[str, typer.Argument(metavar="PATH|ID", help="A file's path, its id, or the beginning of its id.")],
) -> None:
    """Say what became of a file: why it was dropped, what its witness is, and how the two differ."""
    from codelm.inspect_command import inspect

    inspect(where, what)


@app.command()
def serve(path: ConfigPath, overrides: Overrides = None) -> None:
    """Serve the exported model over HTTP (OpenAI's completions API) until Ctrl-C."""
    experiment = config.load(path, overrides or [])
    from codelm.on_ray.endpoint import serve_forever

    serve_forever(experiment)


@app.command()
def complete(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What comes before; - reads it from standard input.")],
    model: Annotated[Path, typer.Option(metavar="DIR", help="A Hugging Face directory, or a run directory.")],
    suffix: Annotated[str | None, typer.Option(help="What comes after: the completion fills the middle.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens at most.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token each time.")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Sample among the likeliest with this probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text. Repeatable.")] = None,
    engine: Annotated[str, typer.Option(help="openvino, vllm, transformers, or auto.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Of the arithmetic; int8 rounds the weights.")] = "auto",
) -> None:
    """Complete code on the terminal: codelm complete "def f(x):" --model runs/quickstart"""
    import sys

    from codelm.inference.complete_command import complete as texts
    from codelm.inference.engine import Request

    request = Request(
        sys.stdin.read() if prompt == "-" else prompt, max_tokens, temperature, top_p, tuple(stop or ()), seed
    )
    for text in texts(model, request, suffix, engine, precision):
        sys.stdout.write(text)
        sys.stdout.flush()
    sys.stdout.write("\n")


@app.command("bench-serve")
def bench_serve(
    url: Annotated[str, typer.Argument(metavar="URL", help="Up to and with /v1: http://127.0.0.1:8000/v1")],
    model: Annotated[str, typer.Option(help="The model's name there.")],
    streams: Annotated[str, typer.Option(metavar="N,N,...", help="Requests at once.")] = "1,8,32",
    requests: Annotated[int, typer.Option(min=1, help="Requests of each stream.")] = 4,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a completion at most.")] = 128,
    prompt_words: Annotated[int, typer.Option(min=1, help="Words of a prompt.")] = 32,
) -> None:
    """Measure any OpenAI-compatible address: time to the first token, tokens/s, percentiles. Key: OPENAI_API_KEY."""
    from codelm import bench_serve as measuring
    from codelm.errors import UserError

    if not all(part.isdigit() and int(part) > 0 for part in streams.split(",")):
        raise UserError(f"--streams: {streams!r} is not a list of numbers such as 1,8,32")
    key = measuring.key_from_environment()
    load = measuring.Load(url.rstrip("/"), model, max_tokens, prompt_words, key=key)
    measured = measuring.bench(load, [int(part) for part in streams.split(",")], requests)
    typer.echo(measuring.described(measured, shutil.get_terminal_size().columns), nl=False)


Ks = Annotated[str | None, typer.Option("--k", metavar="K,K,...", help="pass@k for these k, such as 1,10,100.")]
Mlflow = Annotated[
    str | None,
    typer.Option("--mlflow", envvar="MLFLOW_TRACKING_URI", metavar="URI", help="Log figures and files there."),
]


@app.command()
def judge(
    samples: Annotated[
        Path,
        typer.Argument(
            metavar="SAMPLES",
            help="human-eval's JSONL, EvalPlus', generations_*.json of CodeParrot or BigCode, MultiPL-E's; also .gz.",
        ),
    ],
    benchmark: Annotated[str, typer.Option(help="A benchmark's name, or a JSONL file of problems.")] = "humaneval",
    source: Annotated[str | None, typer.Option(help="Where a named benchmark's problems come from.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the results; else that of the samples.")] = None,
    k: Ks = None,
    partial: Annotated[bool, typer.Option("--partial", help="Leave problems without samples out.")] = False,
    mode: Annotated[
        str, typer.Option(metavar="checked|in_process|both", help="`both` also lists where they disagree.")
    ] = "checked",
    require: Annotated[str, typer.Option(metavar="full|any", help="Layers of the sandbox.")] = "full",
    cpu_seconds: Annotated[float | None, typer.Option(help="CPU time a program; else the benchmark's own.")] = None,
    memory_mb: Annotated[int, typer.Option(help="Memory a program, in MiB.")] = 1024,
    seed: Annotated[int, typer.Option(help="Of the intervals' resampling.")] = 0,
    address: Annotated[str | None, typer.Option(help="A Ray cluster's; else one is started here.")] = None,
    cpus: Annotated[int | None, typer.Option(help="CPUs of a cluster started here.")] = None,
    mlflow: Mlflow = None,
) -> None:
    """Judge a samples file, of ours or of others: verdicts, pass@k and a page to browse."""
    from codelm.on_ray import judge_command

    cluster = config.Cluster(address=address, num_cpus=cpus)
    asked = judge_command.Asked(
        samples, benchmark, source, out, _ks(k), partial, cpu_seconds, memory_mb, mode, require, seed, cluster
    )
    results = judge_command.run(asked)
    typer.echo(judge_command.described(results))
    if mlflow:
        from codelm.tracking import log_once

        log_once(mlflow, "judge", samples.name, results.metrics, results.files)


@app.command()
def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN [RUN]", help="Run directories or results files, one or two.")
    ],
    k: Ks = None,
    seed: Annotated[int, typer.Option(help="Of the resampling.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the figures to this JSON file.")] = None,
    mlflow: Mlflow = None,
) -> None:
    """Compare two runs by a paired test over problems, or one with what others have published."""
    from codelm.errors import UserError
    from codelm.evaluation import compare_command

    if len(runs) > 2:
        raise UserError(f"{len(runs)} runs were given; compare one or two")
    compared = compare_command.compare_runs(runs, _ks(k), seed)
    typer.echo(compare_command.described(compared, shutil.get_terminal_size().columns))
    if out is not None:
        out.write_text(json.dumps(compared.record(), indent=2) + "\n")
    if mlflow:
        from codelm.tracking import log_once

        log_once(mlflow, "compare", " and ".join(runs), compared.record(), [out] if out else [])


def _ks(text: str | None) -> tuple[int, ...]:
    from codelm.errors import UserError

    try:
        ks = tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise UserError(f"--k: {text!r} is not a list of numbers such as 1,10,100") from error
    if any(k < 1 for k in ks):
        raise UserError(f"--k: {min(ks)} is below 1")
    return ks


@app.command("validation-loss")
def validation_loss(
    model: Annotated[str, typer.Option(metavar="DIR|NAME", help="A Hugging Face directory, or a name on the hub.")],
    data: Annotated[Path, typer.Option(help="A packed split, a corpus, or Parquet, JSON Lines or text files.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences computed together.")] = 8,
    sequence_length: Annotated[
        int | None, typer.Option(min=2, help="Tokens in a sequence; 1,024 or the model's positions if not given.")
    ] = None,
    max_sequences: Annotated[int | None, typer.Option(min=1, help="Measure so many; all if not given.")] = None,
    isolate_documents: Annotated[
        bool, typer.Option("--isolate-documents", help="As a training with data.isolate_documents has them.")
    ] = False,
) -> None:
    """Measure any causal model: loss, perplexity and bits per byte on held-out data."""
    from codelm.modeling.quiet import quiet_transformers
    from codelm.training.validation import validation_loss as measure

    quiet_transformers()
    typer.echo(measure(model, data, batch_size, sequence_length, max_sequences, isolate_documents).describe())


CLUSTER_PANEL = "Jobs on a cluster"
Address = Annotated[
    str,
    typer.Option(
        envvar="RAY_API_SERVER_ADDRESS", metavar="URL", help="The cluster's dashboard, such as http://head:8265."
    ),
]
Job = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, as `codelm jobs` lists them.")]


@app.command(rich_help_panel=CLUSTER_PANEL)
def submit(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="A stage, or `pipeline` for all.")],
    path: ConfigPath,
    address: Address,
    overrides: Overrides = None,
    working_dir: Annotated[Path, typer.Option(help="What is uploaded: the root of the repository.")] = Path(),
    detach: Annotated[bool, typer.Option("--detach", help="Print the job's id and do not wait for it.")] = False,
) -> None:
    """Check, upload and run a stage as a job on a cluster; its log, and its exit status, are this command's."""
    from codelm.console import say
    from codelm.submission.preflight import Asked, preflight
    from codelm.submission.server import find_token, normalised

    asked = Asked(stage, path, tuple(overrides or ()), normalised(address), find_token(), working_dir)
    ready = preflight(asked)
    for line in ready.describe():
        say("submit", line)
    from codelm.on_ray import submit as jobs_api

    client = jobs_api.connect(asked.address, asked.token)
    job = jobs_api.submit(client, asked, ready)
    say("submit", f"{job} at {asked.address}/#/jobs/{job}")
    if detach:
        typer.echo(job)
        return
    raise typer.Exit(jobs_api.follow(client, job))


def _jobs_client(address: str) -> Any:
    from codelm.submission.server import check_address, find_token, normalised

    url, token = normalised(address), find_token()
    check_address(url, token)
    from codelm.on_ray.submit import connect

    return connect(url, token)


@app.command(rich_help_panel=CLUSTER_PANEL)
def jobs(address: Address) -> None:
    """List the jobs that were submitted to a cluster, newest first."""
    client = _jobs_client(address)
    from codelm.on_ray.submit import listing

    for row in listing(client):
        typer.echo("  ".join(row))


@app.command(rich_help_panel=CLUSTER_PANEL)
def logs(job: Job, address: Address) -> None:
    """Print a job's log, follow it until the job ends, and exit with the job's status."""
    client = _jobs_client(address)
    from codelm.on_ray.submit import follow

    raise typer.Exit(follow(client, job))


@app.command(rich_help_panel=CLUSTER_PANEL)
def stop(job: Job, address: Address) -> None:
    """End a job; what its stage has finished stays, and a later submission goes on from there."""
    client = _jobs_client(address)
    from codelm.on_ray.submit import stop as end

    end(client, job)


sandbox = typer.Typer(help="Run a program in the jail that judged programs run in.", no_args_is_help=True)
app.add_typer(sandbox, name="sandbox")

Require = Annotated[str, typer.Option(metavar="full|any", help="`any` runs with the layers that this machine has.")]


@sandbox.command("run")
def sandbox_run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A program: .py, .js, .java, .cpp, .sh.")],
    require: Require = "full",
    cpu_seconds: Annotated[float, typer.Option(help="CPU time it may use.")] = 3.0,
    memory_mb: Annotated[int, typer.Option(help="Memory it may use, in MiB.")] = 1024,
) -> None:
    """Run one program in the jail and print its output and its verdict; exit status 1 if it fails."""
    from codelm.sandbox.command import run_file

    output, verdict = run_file(file, require, cpu_seconds, memory_mb)
    typer.echo(output, nl=False)
    typer.echo(verdict.describe(), err=True)
    raise typer.Exit(0 if verdict.passed else 1)


@sandbox.command("probe")
def sandbox_probe() -> None:
    """Attack every layer of the jail on this machine and say which of them hold."""
    from codelm.sandbox.command import probe_report

    typer.echo(probe_report())


@app.command()
def validate(path: ConfigPath, overrides: Overrides = None) -> None:
    """Check a config, its sources, ports, addresses and run directory, without starting anything."""
    experiment = config.load(path, overrides or [])
    from codelm.on_ray import pipeline as stages

    stages.check(experiment, [*stages.wanted(experiment), *(["sweep"] if experiment.sweep else [])])
    typer.echo(f"{path}: valid; run it with `codelm pipeline {path}`")


@app.command()
def plan(
    path: ConfigPath,
    overrides: Overrides = None,
    corpus_size: Annotated[str | None, typer.Option("--corpus", metavar="SIZE", help="Of the sources: 40GB.")] = None,
    device: Annotated[str | None, typer.Option(help="That trains, such as H100; else that of --measured.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Of those devices; else training.workers.")] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="Of the cluster; else this machine's.")] = None,
    mfu: Annotated[float, typer.Option(min=0.001, max=1, help="Share of the device's peak that is reached.")] = 0.3,
    price: Annotated[float | None, typer.Option(min=0, help="Of a device for an hour.")] = None,
    measured: Annotated[str | None, typer.Option(metavar="RUN_DIR", help="Take rates from this earlier run.")] = None,
) -> None:
    """Estimate tokens, FLOPs, hours, cost and storage; for what is finished, compare with what it took."""
    experiment = config.load(path, overrides or [])
    from codelm.planning.command import Asked, described

    typer.echo(described(experiment, Asked(cpus, device, count, mfu, price, corpus_size, measured)))


@app.command()
def show_config(path: ConfigPath, overrides: Overrides = None) -> None:
    """Print the whole config as YAML: the file's values, overrides, and every default."""
    typer.echo(config.to_yaml(config.load(path, overrides or [])), nl=False)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
