"""What `kubectl kustomize` makes of a directory, as far as cluster/kubernetes uses it; a test compares the two."""

import copy
from pathlib import Path
from typing import Any

import yaml

KEYS = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator", "generatorOptions"}
KEYS |= {"images", "patches", "replacements", "nameSuffix"}


def render(directory: Path) -> list[dict[str, Any]]:
    """The objects of a kustomization, with its patches, suffix, images and replacements applied."""
    asked = yaml.safe_load((directory / "kustomization.yaml").read_text())
    assert set(asked) <= KEYS, f"{directory}: {set(asked) - KEYS} is not known here"
    objects: list[dict[str, Any]] = []
    for name in asked["resources"]:
        path = directory / name
        found = render(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
        objects += copy.deepcopy(found)
    for made in asked.get("configMapGenerator", []):
        data = dict(item.split("=", 1) for item in made["literals"])
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": made["name"]}, "data": data})
    for patch in asked.get("patches", []):
        objects = _patched(objects, patch)
    for item in objects:
        if "namespace" in asked and item["kind"] != "Namespace":
            item["metadata"]["namespace"] = asked["namespace"]
        item["metadata"]["name"] += asked.get("nameSuffix", "")
        for image in asked.get("images", []):
            _set_image(item, image["name"], f"{image['newName']}:{image['newTag']}")
    for replacement in asked.get("replacements", []):
        _replace(objects, replacement)
    return objects


def _selected(objects: list[dict[str, Any]], target: dict[str, str]) -> list[dict[str, Any]]:
    found = [
        item
        for item in objects
        if item["kind"] == target["kind"] and target.get("name", item["metadata"]["name"]) == item["metadata"]["name"]
    ]
    assert found, f"nothing is {target}"
    return found


def _patched(objects: list[dict[str, Any]], patch: dict[str, Any]) -> list[dict[str, Any]]:
    content = yaml.safe_load(patch["patch"])
    for item in _selected(objects, patch["target"]):
        if isinstance(content, dict):
            assert content.get("$patch") == "delete"
            objects = [other for other in objects if other is not item]
            continue
        for step in content:
            *way, last = step["path"].strip("/").split("/")
            place: Any = item
            for part in way:
                place = place[int(part) if isinstance(place, list) else part]
            assert last in place, f"no {step['path']} to {step['op']}"
            if step["op"] == "test":
                assert place[last] == step["value"]
            else:
                assert step["op"] == "replace"
                place[last] = step["value"]
    return objects


def _set_image(node: Any, name: str, image: str) -> None:
    if isinstance(node, dict):
        for container in node.get("containers", []) if isinstance(node.get("containers"), list) else []:
            if container["image"] == name:
                container["image"] = image
        for value in node.values():
            _set_image(value, name, image)
    elif isinstance(node, list):
        for value in node:
            _set_image(value, name, image)


def _replace(objects: list[dict[str, Any]], replacement: dict[str, Any]) -> None:
    (source,) = _selected(objects, replacement["source"])
    assert replacement["source"]["fieldPath"] == "spec"
    for target in replacement["targets"]:
        for item in _selected(objects, target["select"]):
            for path in target["fieldPaths"]:
                *way, last = path.split(".")
                place: Any = item
                for part in way:
                    place = place[part]
                place[last] = copy.deepcopy(source["spec"])
