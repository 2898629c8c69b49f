"""Task runners of Prefect that start the flow's tasks: threads of this process, a Dask cluster, or a Ray cluster."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.config.document import Cluster
from flows.engine.schedule import Need
from lowering.errors import InfraError, Problem

# If a worker dies, the flow decides whether to retry the job: the cluster must not rerun the task by itself, nor give up a worker that is
# merely busy. Jobs run in child processes, so workers must be allowed to start them.
DASK = {"distributed.scheduler.allowed-failures": 0, "distributed.deploy.lost-worker-timeout": "120s", "distributed.worker.daemon": False,
        "distributed.comm.timeouts.connect": "60s", "distributed.comm.retry.count": 3}
RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_health_check_failure_threshold": "12",
       "RAY_health_check_timeout_ms": "30000", "RAY_agent_register_timeout_ms": "300000"}
LOCAL_CLUSTER = "distributed.LocalCluster"


def make(cluster: Cluster, workers: int) -> TaskRunner[Any]:
    """Return the task runner of `cluster`. Raises InfraError if its package is not installed."""
    if cluster.runner == "threads":
        return ThreadPoolTaskRunner(max_workers=workers)
    return {"dask": _make_dask_runner, "ray": _make_ray_runner}[cluster.runner](cluster, workers)


def _make_dask_runner(cluster: Cluster, workers: int) -> TaskRunner[Any]:
    prefect_dask = _import_extra("prefect_dask", "dask")
    import dask

    dask.config.set(DASK)
    if cluster.address:
        return prefect_dask.DaskTaskRunner(address=cluster.address)
    options: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None, **cluster.options} \
        if cluster.cluster_class in (None, LOCAL_CLUSTER) else dict(cluster.options)
    return prefect_dask.DaskTaskRunner(cluster_class=cluster.cluster_class or LOCAL_CLUSTER, cluster_kwargs=options)


def _make_ray_runner(cluster: Cluster, workers: int) -> TaskRunner[Any]:
    prefect_ray = _import_extra("prefect_ray", "ray")
    for name, value in RAY.items():
        os.environ.setdefault(name, value)
    if cluster.address:
        return prefect_ray.RayTaskRunner(address=cluster.address, init_kwargs=dict(cluster.options))
    options = {"num_cpus": workers, "include_dashboard": False, **cluster.options}
    return prefect_ray.RayTaskRunner(init_kwargs=options)


def _import_extra(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        fix = f"pip install 'shapeline[{extra}]'"
        raise InfraError(Problem(f"cluster.runner={extra}", f"{module} is not installed: {error}", fix)) from error


@contextmanager
def request_resources(cluster: Cluster, need: Need) -> Iterator[None]:
    """Make tasks submitted inside the block request the job's resources from the cluster, and run at most once."""
    if cluster.runner == "ray":
        from prefect_ray.context import remote_options

        gpus = {"num_gpus": cluster.gpu_per_job} if need.gpu and _ray_has_gpus() else {}
        with remote_options(max_retries=0, num_cpus=1, memory=min(need.memory_bytes, _read_ray_memory()), **gpus):
            yield
    elif cluster.runner == "dask":
        import dask

        asked = {"resources": {"GPU": cluster.gpu_per_job}} if need.gpu and _dask_has_gpus() else {}
        with dask.annotate(retries=0, **asked):
            yield
    else:
        yield


def _ray_has_gpus() -> bool:
    """Return whether the cluster has GPUs. A request that no worker can meet would wait forever."""
    import ray

    return float(ray.cluster_resources().get("GPU", 0)) > 0


def _read_ray_memory() -> int:
    """Return the memory of the largest node in bytes: the most that a task can request."""
    import ray

    sizes: list[float] = [node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]]
    return int(max(sizes, default=0))


def _dask_has_gpus() -> bool:
    """Return whether a worker has GPUs. Prefect's client of the cluster is not Dask's default one: ask the flow's runner for it."""
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    client: Any = getattr(context and context.task_runner, "client", None)
    workers: Mapping[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return any(worker.get("resources", {}).get("GPU") for worker in workers.values())
