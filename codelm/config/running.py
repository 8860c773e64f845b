"""The sections `cluster`, `serving` and `tracking`: where and how things run."""

from typing import Annotated, Literal

from pydantic import Field

from codelm.config.engines import EngineName, Precision
from codelm.config.section import PositiveInt, Section


class Cluster(Section):
    """The Ray cluster to run on."""

    address: str | None = None
    """`auto` or `host:port` of a running cluster; null starts one on this machine for the run."""
    num_cpus: PositiveInt | None = None
    """Logical CPUs of a cluster started here; null takes the machine's."""
    object_store_mb: Annotated[int, Field(ge=80)] = 512
    """Object store of a cluster started here, in MiB."""
    accelerator_type: str | None = None
    """Ray's name of the accelerator to train on, where the cluster has several: H100, TPU-V6E."""
    tpu_topology: str | None = None
    """The slice to train on, such as 4x4; needed, with accelerator_type, for more than one worker on TPUs."""


class Serving(Section):
    """The completion endpoint."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(gt=0, lt=65536)] = 8000
    engine: EngineName = "auto"
    """auto is openvino on CPUs, vllm on GPUs where it is installed, and else transformers."""
    precision: Precision = "auto"
    """auto is bf16 where the device computes with it natively, and else fp32; int8 rounds the weights."""
    cache_mb: PositiveInt = 1024
    """A replica's memory for keys and values, in MiB. What prompts have in common is computed once."""
    threads: PositiveInt | None = None
    """CPU threads of a replica; null takes all cores of its machine."""
    replicas: PositiveInt = 1
    max_ongoing_requests: PositiveInt = 16
    max_queued_requests: PositiveInt = 64
    max_prompt_tokens: PositiveInt | None = None
    """null takes the model's positions."""
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    """An answer is what there is by then; null waits for its end."""
    max_body_bytes: PositiveInt = 2 << 20
    """Longer requests are refused."""
    source: str | None = None
    """A model to serve in place of the run's: its directory, `models:/NAME@ALIAS` of MLflow's registry, or a name on
    the hub."""
    refresh_seconds: Annotated[float, Field(gt=0)] | None = None
    """Look so often whether the source has another version, and serve that; null stays with the first."""
    api_keys_file: str | None = None
    """One key a line; those of the environment's CODELM_API_KEYS, separated by commas, count as well. Without any,
    none is asked for."""
    cors_origins: tuple[str, ...] = ()
    """Origins of pages that browsers let ask, such as https://ide.example.com, or `*` for all."""
    editor_extent: Literal["free", "line", "block"] = "block"
    """How far completions go where an editor's protocol does not say."""
    log_requests: bool = False
    """Log path, status and time of each answer."""
    log_prompts: bool = False
    """Log what users wrote."""
    drain_seconds: Annotated[float, Field(gt=0)] = 30.0
    """What runs when the service is to end may go on so long."""


class Tracking(Section):
    """MLflow."""

    uri: str | None = None
    """A server's address; null takes MLFLOW_TRACKING_URI, and else an SQLite file in the run directory."""
    experiment: str | None = None
    """null takes the experiment's name."""
    registered_model: str | None = None
    """What the exported model is called in MLflow's model registry; null takes the experiment's name."""
    alias: str = "latest-export"
    """What stands for the version that was exported last: `models:/NAME@ALIAS`."""
