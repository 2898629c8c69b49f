"""Hydra's plugins for `shapeline multirun`: `hydra/launcher=prefect` runs all jobs of a sweep in one flow run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher


class PrefectLauncher(Launcher):
    """Lower the jobs of a sweep as one run; the return value of each combination is {job id: outcome}."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep the function that is swept, which lowers the combinations; the plan composes its own configuration."""
        if not hasattr(task_function, "launch"):
            raise HydraException("hydra/launcher=prefect lowers the sweeps of `shapeline multirun`, not those of other applications")
        self.sweep = task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        found: list[JobReturn] = self.sweep.launch(job_overrides, initial_job_idx)
        return found


class PipelineSweeper(BasicSweeper):
    """Hydra's own sweeper, without its check of each job: the plan of all of them reports what is wrong, at once."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Left to the launcher: the keys of models are not Hydra's."""


for group, name, kind in (("launcher", "prefect", PrefectLauncher), ("sweeper", "pipeline", PipelineSweeper)):
    node = {"_target_": f"{__name__}.{kind.__name__}", **({"max_batch_size": None, "params": None} if name == "pipeline" else {})}
    ConfigStore.instance().store(group=f"hydra/{group}", name=name, node=node, provider="shapeline")
