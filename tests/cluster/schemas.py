"""Schemas of what cluster/ holds: Kubernetes' by its Python client's models, the rest as far as it is used there.

KubeRay's are taken from its CRDs (`ray.io/v1`, KubeRay 1.5: ray-operator/config/crd/bases), Compose's from
https://github.com/compose-spec/compose-spec/blob/main/schema/compose-spec.json. They are stricter than those: a key
that is not used is not allowed, so that one which is misspelt cannot pass.
"""

import re
from typing import Any

import jsonschema
from kubernetes.client import models

POD_TEMPLATE: dict[str, Any] = {"type": "object", "kubernetes": "V1PodTemplateSpec"}


def shape(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required or [],
        "additionalProperties": False,
    }


TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
METADATA = shape(["name"], name={"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}, namespace=TEXT)
CLUSTER = shape(
    ["headGroupSpec", "workerGroupSpecs", "rayVersion"],
    rayVersion=TEXT,
    authOptions=shape(["mode"], mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=shape(version={"enum": ["v1", "v2"]}, idleTimeoutSeconds=COUNT),
    headGroupSpec=shape(["rayStartParams", "template"], rayStartParams=TEXTS, template=POD_TEMPLATE),
    workerGroupSpecs={
        "type": "array",
        "items": shape(
            ["groupName", "rayStartParams", "template", "minReplicas", "maxReplicas"],
            groupName=TEXT,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            numOfHosts={"type": "integer", "minimum": 1},
            rayStartParams=TEXTS,
            template=POD_TEMPLATE,
        ),
    },
)
JOB = shape(
    ["entrypoint", "clusterSelector"],
    entrypoint=TEXT,
    clusterSelector=TEXTS,
    runtimeEnvYAML=TEXT,
    backoffLimit=COUNT,
    submitterPodTemplate=POD_TEMPLATE,
)
SERVICE = shape(["serveConfigV2", "rayClusterConfig"], serveConfigV2=TEXT, rayClusterConfig=CLUSTER)


def _object(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return shape(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=METADATA,
        spec=spec,
    )


KUBERAY = {
    "RayCluster": _object("RayCluster", CLUSTER),
    "RayJob": _object("RayJob", JOB),
    "RayService": _object("RayService", SERVICE),
}
KUBERNETES = {
    "Namespace": "V1Namespace",
    "ServiceAccount": "V1ServiceAccount",
    "ConfigMap": "V1ConfigMap",
    "NetworkPolicy": "V1NetworkPolicy",
}
LISTS_OF_TEXT: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
COMPOSE = shape(
    ["services"],
    name=TEXT,
    volumes={"type": "object"},
    services={
        "type": "object",
        "additionalProperties": shape(
            image=TEXT,
            build=shape(["context"], context=TEXT, dockerfile=TEXT, args=TEXTS),
            command=LISTS_OF_TEXT,
            environment=TEXTS,
            ports={"type": "array", "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}},
            volumes=LISTS_OF_TEXT,
            depends_on={"type": "object"},
            healthcheck=shape(
                ["test"], test=LISTS_OF_TEXT, interval=TEXT, timeout=TEXT, retries=COUNT, start_period=TEXT
            ),
            shm_size=TEXT,
            security_opt=LISTS_OF_TEXT,
            deploy=shape(replicas=COUNT),
            profiles=LISTS_OF_TEXT,
            secrets=LISTS_OF_TEXT,
        ),
    },
    secrets={"type": "object"},
)


def _is_kubernetes(_validator: Any, model: str, value: Any, _schema: Any) -> Any:
    for problem in kubernetes_problems(model, value, model):
        yield jsonschema.ValidationError(problem)


Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"kubernetes": _is_kubernetes})


def problems(schema: dict[str, Any], value: Any) -> list[str]:
    """What is wrong with a value, a line each."""
    return [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in Validator(schema).iter_errors(value)
    ]


def kubernetes_problems(kind: str, value: Any, where: str) -> list[str]:
    """What is wrong with an object, by the models of Kubernetes' client: unknown keys and wrong types.

    Args:
        kind: a model's name, or `List[...]`, `Dict[str, ...]`, `str`, `int`, `bool`, `object`.
        value: plain, as YAML gives it.
        where: the path to it.
    """
    if kind == "object" or value is None:
        return []
    inner = re.fullmatch(r"List\[(.*)\]|Dict\[str, (.*)\]", kind)
    if inner is not None and inner[1] is not None:
        if not isinstance(value, list):
            return [f"{where} is no list"]
        return [
            line for place, item in enumerate(value) for line in kubernetes_problems(inner[1], item, f"{where}/{place}")
        ]
    if inner is not None:
        if not isinstance(value, dict):
            return [f"{where} is no mapping"]
        return [line for key, item in value.items() for line in kubernetes_problems(inner[2], item, f"{where}/{key}")]
    plain: dict[str, Any] = {"str": str, "int": int, "bool": bool, "float": (int, float)}
    if kind in plain:
        right = isinstance(value, plain[kind]) and not (kind == "int" and isinstance(value, bool))
        return [] if right else [f"{where}: {value!r} is no {kind}"]
    model: Any = getattr(models, kind)
    if not isinstance(value, dict):
        return [f"{where} is no mapping"]
    keys = {name: attribute for attribute, name in model.attribute_map.items()}
    wrong = [f"{where}: {key} is not known" for key in value if key not in keys]
    for key in value.keys() & keys.keys():
        wrong += kubernetes_problems(model.openapi_types[keys[key]], value[key], f"{where}/{key}")
    return wrong
