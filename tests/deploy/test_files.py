"""The files that ship for containers, clusters and CI: their commands are Shapeline's, and they agree with each other."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.command.verbs import VERBS
from flows.config.plan import plan
from flows.engine import runners
from tests.wheels import SOURCES

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
MANIFESTS = [document for path in sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
             for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/lower.yaml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def find_mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from find_mappings(inner)


CONTAINERS = [one for one in find_mappings(MANIFESTS) if "image" in one]


def read_commands() -> Iterator[tuple[str, list[str]]]:
    """Each command of Shapeline in the files, with the file that has it."""
    for name, service in COMPOSE["services"].items():
        if service.get("command", [""])[0] == "shapeline":
            yield f"compose.yaml {name}", [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in service["command"]]
    for container in CONTAINERS:
        if container.get("command", [""])[0] == "shapeline":
            yield f"kubernetes {container['name']}", container["command"]
    for path in sorted((ROOT / "deploy/slurm").glob("*.sbatch")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("shapeline "):
                yield path.name, [word for word in shlex.split(line) if word != "$@"]


def test_the_commands_of_all_services_are_valid() -> None:
    found = list(read_commands())
    assert len(found) == 4
    for where, (_, verb, *words) in found:
        assert verb in VERBS, where
        overrides = [re.sub(r"\$\{?\w+\}?", "x", word) for word in words if not word.startswith(("--", "output="))]
        assert plan(overrides).cluster.runner in ("dask", "ray"), where


def test_workers_may_start_child_processes_and_lost_jobs_are_left_to_the_flow() -> None:
    variables = {"DASK_DISTRIBUTED__WORKER__DAEMON": runners.DASK["distributed.worker.daemon"],
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": runners.DASK["distributed.scheduler.allowed-failures"]}
    (settings,) = [one["data"] for one in MANIFESTS if one["kind"] == "ConfigMap"]
    for declared in (COMPOSE["x-shapeline"]["environment"], settings):
        assert {name: ast.literal_eval(declared[name]) for name in variables} == variables
    assert all(f"{name}={value}" in (ROOT / "deploy/slurm/dask.sbatch").read_text(encoding="utf-8") for name, value in variables.items())


def test_ports_are_published_on_this_machine_only_and_no_password_is_shipped() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
    secrets = [value for one in find_mappings(COMPOSE)
               for key, value in one.items() if "PASSWORD" in key or "SECRET" in key or "AUTH" in key]
    assert len(secrets) >= 5 and all(re.fullmatch(r"\$\{\w+:\?.*\}", value) for value in secrets)
    made = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\n.env:")[2]
    assert all(name in made for name in re.findall(r"\$\{(\w+):\?", (ROOT / "compose.yaml").read_text(encoding="utf-8")))


def test_the_images_have_the_version_of_the_package_and_extras_that_exist() -> None:
    assert {one["image"].rpartition(":")[2] for one in CONTAINERS} == {PROJECT["version"]}
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (extras,) = re.findall(r"ARG EXTRAS=(\S+)", dockerfile)
    assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()
    (version,) = re.findall(r"FROM python:(\d+\.\d+)", dockerfile)
    assert version in PROJECT["requires-python"]


def test_the_build_context_has_all_that_the_wheel_is_built_of() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")}
    assert set(SOURCES) - {"benchmarks", "examples", "tests"} <= allowed
    assert all((ROOT / name).exists() for name in allowed)


def test_the_deployment_names_the_flow() -> None:
    (deployment,) = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    path, _, name = deployment["entrypoint"].partition(":")
    functions = [node.name for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    assert name in functions
    assert deployment["concurrency_limit"] == 1


@pytest.mark.parametrize("job", ["shard", "compare"])
def test_the_commands_of_the_workflow_exist(job: str) -> None:
    script = "\n".join(step.get("run", "") for step in WORKFLOW["jobs"][job]["steps"])
    verbs = set(re.findall(r"\bshapeline ([a-z-]+)", script))
    assert verbs and verbs <= VERBS.keys()
    shards = WORKFLOW["jobs"]["shard"]["strategy"]["matrix"]["shard"]
    assert job != "shard" or f"/{len(shards)} " in script
