"""Hydra plugins of `shapeline multirun`: `hydra/launcher=prefect` runs all jobs of a sweep in one flow run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher


class PrefectLauncher(Launcher):
    """A launcher that lowers the jobs of a sweep as one run. The return value of each combination is {job id: outcome}."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Store the swept task function, which lowers the combinations. The plan composes its own configuration."""
        if not hasattr(task_function, "launch"):
            raise HydraException("hydra/launcher=prefect supports only the sweeps of `shapeline multirun`")
        self.sweep = task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        found: list[JobReturn] = self.sweep.launch(job_overrides, initial_job_idx)
        return found


class PipelineSweeper(BasicSweeper):
    """Hydra's basic sweeper, without its check of each job: planning all combinations together reports all errors at once."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing: the launcher checks the overrides, since Hydra does not know the keys of models."""


for group, name, kind in (("launcher", "prefect", PrefectLauncher), ("sweeper", "pipeline", PipelineSweeper)):
    node = {"_target_": f"{__name__}.{kind.__name__}", **({"max_batch_size": None, "params": None} if name == "pipeline" else {})}
    ConfigStore.instance().store(group=f"hydra/{group}", name=name, node=node, provider="shapeline")
