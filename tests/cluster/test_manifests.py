"""What cluster/ holds: each file against a schema, and every command, path, variable and config in it exists."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import botocore.configprovider
import jsonschema
import pytest
import yaml
from ray.autoscaler._private import util as ray_launcher

from codelm import config
from codelm.on_ray import metrics
from codelm.run_dir import DIRECTORIES
from tests.cluster.kustomize import render
from tests.cluster.schemas import COMPOSE, KUBERAY, KUBERNETES, kubernetes_problems, problems

RAY_SCHEMA = Path(ray_launcher.__file__).parent.parent / "ray-schema.json"
MLFLOW = Path((importlib.util.find_spec("mlflow") or pytest.fail("no MLflow")).origin or "").parent
ROOT = Path(__file__).parent.parent.parent
CLUSTER = ROOT / "cluster"
KUBERNETES_DIR = CLUSTER / "kubernetes"
KUSTOMIZATIONS = sorted(path.parent for path in KUBERNETES_DIR.rglob("kustomization.yaml"))
OVERLAYS = sorted((KUBERNETES_DIR / "overlays").iterdir())
STAGES_ON_KUBERNETES = sorted(path.name for path in (KUBERNETES_DIR / "jobs").iterdir() if path.name != "base")
Objects = list[dict[str, Any]]


def name_of(path: Path) -> str:
    return str(path.relative_to(CLUSTER))


def of_kind(objects: Objects, kind: str) -> Objects:
    return [item for item in objects if item["kind"] == kind]


def groups(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {group["groupName"]: group for group in cluster["workerGroupSpecs"]}


# Kubernetes


@pytest.mark.parametrize("directory", KUSTOMIZATIONS, ids=name_of)
def test_objects_against_their_schemas(directory: Path) -> None:
    objects = render(directory)
    assert objects
    for item in objects:
        if item["kind"] in KUBERAY:
            assert not problems(KUBERAY[item["kind"]], item)
        else:
            assert not kubernetes_problems(KUBERNETES[item["kind"]], item, item["kind"])


def test_the_schemas_find_mistakes() -> None:
    (cluster,) = json.loads(json.dumps(of_kind(render(KUBERNETES_DIR / "base"), "RayCluster")))
    pod = cluster["spec"]["headGroupSpec"]["template"]["spec"]
    pod["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = True
    cluster["spec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    cluster["spec"]["workerGroupSpecs"][1]["template"]["spec"]["hostNetwork"] = "yes"
    said = problems(KUBERAY["RayCluster"], cluster)
    assert len(said) == 3
    assert any("readOnlyRootFileSystem is not known" in line for line in said)
    assert any("'maxReplica' was unexpected" in line for line in said)
    assert any("'yes' is no bool" in line for line in said)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine")
@pytest.mark.parametrize(
    "directory", [*OVERLAYS, KUBERNETES_DIR / "jobs/corpus", KUBERNETES_DIR / "service"], ids=name_of
)
def test_kubectl_composes_the_same(directory: Path) -> None:
    command = ["kubectl", "kustomize", str(directory)]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def by_name(objects: Objects) -> dict[tuple[str, str], dict[str, Any]]:
        return {(item["kind"], item["metadata"]["name"]): item for item in objects}

    assert by_name(list(yaml.safe_load_all(made))) == by_name(render(directory))


def test_every_stage_is_a_job() -> None:
    assert set(STAGES_ON_KUBERNETES) == set(DIRECTORIES)
    for stage in STAGES_ON_KUBERNETES:
        (job,) = render(KUBERNETES_DIR / "jobs" / stage)
        assert job["metadata"]["name"] == f"codelm-{stage}"
        assert yaml.safe_load(job["spec"]["runtimeEnvYAML"]) == {"env_vars": {"CODELM_STAGE": stage}}
        check_job_command(job["spec"]["entrypoint"], stage)


def check_job_command(command: str, stage: str) -> None:
    python, dash_m, module, path, *rest = shlex.split(command.replace("$CODELM_STAGE", stage))
    assert (python, dash_m) == ("python", "-m")
    assert importlib.util.find_spec(module)
    assert path.startswith("/opt/codelm/")
    overrides = rest[1::2]
    assert rest[::2] == ["--set"] * len(overrides)
    experiment = config.load(ROOT / path.removeprefix("/opt/codelm/"), overrides)
    assert experiment.run_dir == "$CODELM_RUN_DIR"
    assert experiment.evaluation.sandbox.nodes == "required"


@pytest.mark.parametrize("directory", OVERLAYS, ids=name_of)
def test_groups(directory: Path) -> None:
    (cluster,) = of_kind(render(directory), "RayCluster")
    spec = cluster["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["rayVersion"] == pinned("ray")
    assert set(groups(spec)) == {"cpu", "gpu", "tpu", "sandbox"}
    asks = {
        name: group["template"]["spec"]["containers"][0]["resources"]["limits"] for name, group in groups(spec).items()
    }
    assert asks["gpu"]["nvidia.com/gpu"] == "8"
    assert asks["tpu"]["google.com/tpu"] == "4"
    most = {name: group["maxReplicas"] for name, group in groups(spec).items()}
    assert most["cpu"] == 16
    assert most["sandbox"] == 2
    assert (most["gpu"] > 0) == (directory.name == "gpu")
    assert (most["tpu"] > 0) == (directory.name == "tpu")


def test_the_sandbox_is_isolated() -> None:
    objects = render(KUBERNETES_DIR / "overlays" / "cpu")
    (cluster,) = of_kind(objects, "RayCluster")
    group = groups(cluster["spec"])["sandbox"]
    pod = group["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["runtimeClassName"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    rights = container["securityContext"]
    assert rights["readOnlyRootFilesystem"] is True
    assert rights["allowPrivilegeEscalation"] is False
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert "env" not in container
    assert "envFrom" not in container
    assert all("emptyDir" in volume for volume in pod["volumes"])
    # No CPU for work that is trusted with more, and Ray's own parsing of what the operator hands it.
    assert group["rayStartParams"]["num-cpus"] == "0"
    assert json.loads(json.loads(group["rayStartParams"]["resources"])) == {"sandbox": 8}

    (account,) = [
        item for item in of_kind(objects, "ServiceAccount") if item["metadata"]["name"] == pod["serviceAccountName"]
    ]
    assert account["automountServiceAccountToken"] is False
    others = [
        group["template"]["spec"]["serviceAccountName"]
        for name, group in groups(cluster["spec"]).items()
        if name != "sandbox"
    ]
    assert pod["serviceAccountName"] not in others

    (policy,) = [item for item in of_kind(objects, "NetworkPolicy") if item["metadata"]["name"] == "codelm-sandbox"]
    assert policy["spec"]["podSelector"]["matchLabels"] == {"ray.io/group": "sandbox"}
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    ray_pods = {"podSelector": {"matchExpressions": [{"key": "ray.io/cluster", "operator": "Exists"}]}}
    to_ray, to_names = policy["spec"]["egress"]
    assert to_ray == {"to": [ray_pods]}
    assert {port["port"] for port in to_names["ports"]} == {53}
    assert policy["spec"]["ingress"] == [{"from": [ray_pods]}]


def test_what_pods_refer_to_exists() -> None:
    objects = render(KUBERNETES_DIR / "overlays" / "gpu")
    names = {(item["kind"], item["metadata"]["name"]) for item in objects}
    (cluster,) = of_kind(objects, "RayCluster")
    spec = cluster["spec"]
    for template in [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]:
        pod = template["spec"]
        assert ("ServiceAccount", pod["serviceAccountName"]) in names
        (container,) = pod["containers"]
        assert container["image"] == f"codelm:{version()}"
        assert {mount["name"] for mount in container["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}
        for source in container.get("envFrom", []):
            optional = source.get("secretRef", {}).get("optional")
            assert optional or ("ConfigMap", source["configMapRef"]["name"]) in names
    (settings,) = of_kind(objects, "ConfigMap")
    assert not [name for name in settings["data"] if not known_variable(name)]


def test_the_service_has_the_cluster_and_an_application_that_exists() -> None:
    objects = render(KUBERNETES_DIR / "service")
    (service,) = of_kind(objects, "RayService")
    assert not of_kind(objects, "RayCluster")
    (cluster,) = of_kind(render(KUBERNETES_DIR / "overlays" / "gpu"), "RayCluster")
    assert service["spec"]["rayClusterConfig"] == cluster["spec"]
    check_serve_config(yaml.safe_load(service["spec"]["serveConfigV2"]))
    check_serve_config(yaml.safe_load((ROOT / "serve" / "config.yaml").read_text()))


def check_serve_config(asked: Any) -> None:
    from ray.serve.schema import ServeDeploySchema

    import serve.app

    (application,) = ServeDeploySchema.model_validate(asked).applications
    assert application.import_path == "serve.app:build"
    serve.app.ServeArgs.model_validate(application.args)


# The cluster launcher


@pytest.mark.parametrize("name", ["on-premise", "aws"])
def test_launcher_files(name: str) -> None:
    asked = yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())
    jsonschema.validate(asked, json.loads(RAY_SCHEMA.read_text()))
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        for command in asked[key]:
            check_ray_command(shlex.split(command))
    assert asked["docker"]["image"].endswith(f"codelm:{version()}")


def test_kinds_of_machines_of_aws() -> None:
    kinds = yaml.safe_load((CLUSTER / "aws.yaml").read_text())["available_node_types"]
    assert kinds["sandbox"]["resources"] == {"CPU": 0, "sandbox": 16}
    assert "IamInstanceProfile" not in kinds["sandbox"]["node_config"]
    # A hop more than a container has: it cannot ask the machine for its rights.
    assert kinds["sandbox"]["node_config"]["MetadataOptions"] == {
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
    }
    assert kinds["head"]["resources"]["CPU"] == 0


def check_ray_command(command: list[str]) -> None:
    """Parse with Ray's own command line: options that it does not know are errors."""
    from ray.scripts.scripts import cli

    name, *arguments = command[1:]
    assert command[0] == "ray"
    cli.commands[name].make_context(name, arguments, resilient_parsing=False)


# Docker and Compose


def test_compose() -> None:
    asked = yaml.safe_load((CLUSTER / "compose.yaml").read_text())
    assert not problems(COMPOSE, asked)
    services = asked["services"]
    assert {"head", "worker", "mlflow", "storage"} <= set(services)
    assert services["worker"]["deploy"]["replicas"] == 2
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        assert set(service.get("secrets", [])) <= set(asked["secrets"])
        assert not [name for name in service.get("environment", {}) if not known_variable(name)]
        if "build" in service:
            assert (CLUSTER / service["build"]["context"] / service["build"]["dockerfile"]).exists()
            assert service["image"] == f"codelm:{version()}"
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert (CLUSTER / source).exists() or source in asked["volumes"]
    for name in ("head", "worker"):
        check_ray_command(services[name]["command"])
    check_ray_command(services["head"]["healthcheck"]["test"][1:])
    check_mlflow(services["mlflow"]["command"])
    assert services["storage"]["command"][0] in scripts()
    assert services["head"]["environment"]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert services["head"]["environment"]["AWS_ENDPOINT_URL"] == "http://storage:9000"


def check_mlflow(command: list[str]) -> None:
    """Without importing MLflow, which takes seconds."""
    assert command[:2] == ["mlflow", "server"]
    known = (MLFLOW / "cli" / "__init__.py").read_text() + (MLFLOW / "utils" / "cli_args.py").read_text()
    for argument in command[2:]:
        assert f'"{argument.partition("=")[0]}"' in known


def scripts() -> set[str]:
    from importlib.metadata import entry_points

    return {point.name for point in entry_points(group="console_scripts")}


def test_dockerfile() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    instructions = re.findall(r"^([A-Z]+) ", text, re.MULTILINE)
    assert set(instructions) <= {"FROM", "ARG", "RUN", "WORKDIR", "COPY", "USER", "ENV", "EXPOSE", "CMD"}
    for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists()
            assert source in (ROOT / ".dockerignore").read_text().replace("!", "").split()
    assert f'"torch=={pinned("torch")}"' in text
    assert "FROM python:3.11" in text
    assert instructions.index("USER") > max(place for place, word in enumerate(instructions) if word == "RUN")
    check_ray_command(json.loads(text[text.index("CMD ") + 4 :]))
    variables = re.findall(r"(\w+)=", text[text.index("ENV ") : text.index("EXPOSE")])
    assert variables
    assert all(known_variable(name) for name in variables)


# Seeing


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    board = json.loads((CLUSTER / "monitoring" / "dashboard.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    asked = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"\b(?:ray_)?(?:codelm|node|tasks)\w*", target["expr"])
    }
    ours = {f"ray_{name}" for name in (metrics.DONE, metrics.TOTAL, metrics.RUNNING, metrics.SECONDS)}
    ours |= {f"ray_{name}" for name, _ in metrics.TRAINING.values()}
    assert ours <= asked
    served = re.findall(r'"(codelm_\w+)"', (ROOT / "serve" / "metrics.py").read_text())
    of_ray = "".join(path.read_text() for path in RAY_PANELS.glob("*_panels.py"))
    for name in asked - ours:
        if name.startswith("codelm_"):
            assert any(re.fullmatch(rf"{known}(_total|_bucket)?", name) for known in served), name
        else:
            assert re.search(rf"\b{name}\b", of_ray), name


RAY_PANELS = RAY_SCHEMA.parent.parent / "dashboard" / "modules" / "metrics" / "dashboards"


def test_monitoring_files() -> None:
    directory = CLUSTER / "monitoring"
    scrapes = yaml.safe_load((directory / "prometheus.yaml").read_text())["scrape_configs"]
    assert [job["job_name"] for job in scrapes] == ["ray", "codelm-service"]
    (sources,) = yaml.safe_load((directory / "datasources.yaml").read_text())["datasources"]
    board = json.loads((directory / "dashboard.json").read_text())
    assert {panel["datasource"]["uid"] for panel in board["panels"] if panel["type"] != "row"} == {sources["uid"]}
    (provider,) = yaml.safe_load((directory / "dashboards.yaml").read_text())["providers"]
    mounts = yaml.safe_load((CLUSTER / "compose.yaml").read_text())["services"]["grafana"]["volumes"]
    assert any(mount.partition(":")[2].startswith(provider["options"]["path"]) for mount in mounts)


# What all of them name


def pinned(package: str) -> str:
    found = re.search(rf"^{package}==(\S+)$", (CLUSTER / "constraints.txt").read_text(), re.MULTILINE)
    assert found
    return found[1]


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def known_variable(name: str) -> bool:
    """Whether someone reads it: the manifests themselves, MLflow, the AWS clients, or Ray."""
    if name == "CODELM_RUN_DIR":
        return "$CODELM_RUN_DIR" in (KUBERNETES_DIR / "jobs" / "base" / "job.yaml").read_text()
    if name.startswith("MLFLOW_"):
        return re.search(rf"^{name} = ", (MLFLOW / "environment_variables.py").read_text(), re.MULTILINE) is not None
    if name.startswith("AWS_"):
        known = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"}
        settings = botocore.configprovider.BOTOCORE_DEFAUT_SESSION_VARIABLES.values()
        return name in known | {setting[1] for setting in settings if isinstance(setting[1], str)}
    return name in {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_USAGE_STATS_ENABLED"}
