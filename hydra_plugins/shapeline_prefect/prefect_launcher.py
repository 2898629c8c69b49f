"""Hydra's door to the flow: `hydra/launcher=prefect` runs all jobs of a sweep in one flow run. What takes long to import is in flows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher


class PrefectLauncher(Launcher):
    """Lowers the jobs of a sweep as one run; each job's return value is {job id: outcome}."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Nothing to set up: the plan composes its own configuration."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        from flows.command import multirun

        return multirun.launch(job_overrides, initial_job_idx)


class PipelineSweeper(BasicSweeper):
    """Hydra's own sweeper; what is wrong with a job's configuration is said by the plan of all of them, at once."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Left to the launcher: the keys of models are not Hydra's."""


for group, name, kind in (("launcher", "prefect", PrefectLauncher), ("sweeper", "pipeline", PipelineSweeper)):
    node = {"_target_": f"{__name__}.{kind.__name__}", **({"max_batch_size": None, "params": None} if name == "pipeline" else {})}
    ConfigStore.instance().store(group=f"hydra/{group}", name=name, node=node, provider="shapeline")
