"""`shapeline multirun KEY=V1,V2 ...`: Hydra's own way to sweep. One of its sweepers makes the combinations, one flow run lowers them all."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus

from flows.command.exits import OK, UNEXPECTED
from flows.config import expansion, overrides
from flows.config import run as config
from flows.config.expansion import job_id
from flows.config.overrides import Override
from flows.config.plan import Plan, plan
from flows.config.slugs import spelled
from flows.runs import record
from lowering.errors import ConfigError, Problem

APP = "shapeline_multirun"  # the (empty) primary config: pipeline.yaml is composed by the plan
# Hydra's logging would take over the process; its folder holds multirun.yaml only, what the jobs leave is in the run's folder.
SETTINGS = ("hydra/launcher=prefect", "hydra/sweeper=pipeline", "hydra/hydra_logging=disabled", "hydra/job_logging=disabled",
            "hydra.output_subdir=null")
SEARCHPATH = "hydra.searchpath="


@dataclass
class Sweep:
    """The function that Hydra sweeps; its launcher has it lower all combinations as one run.

    fixed: overrides that only the plan reads; single: keys that have one value and are not swept; as_expected: whether all jobs so far are.
    """

    fixed: Sequence[str] = ()
    single: Collection[str] = ()
    as_expected: bool = True
    error: ConfigError | None = None

    def __call__(self, config: Any) -> None:
        raise ConfigError(Problem("hydra/launcher", "lowers one job at a time", "leave it out: the default, prefect, lowers all as one run"))

    def launch(self, combinations: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        """Lower the jobs of all combinations (the first is number `first`) as one run. Each return value is {job id: outcome}."""
        from flows import lower  # here: a sweep that is refused starts without Prefect
        from flows.report import report

        try:
            planned = planned_of(combinations, self.single, self.fixed)
        except ConfigError as error:  # Hydra would print a traceback: `main` raises it again
            self.error = error
            return [JobReturn(overrides=list(combination), _return_value={}, status=JobStatus.COMPLETED) for combination in combinations]
        folder = lower.lower_suite(config.build(planned))
        self.as_expected &= report.as_expected(folder)
        results = {result.id: result for result in record.load(folder).results()}
        found = []
        for number, combination in enumerate(combinations, first):
            returned = JobReturn(overrides=list(combination), working_dir=str(folder), task_name=f"{folder.name}#{number}")
            returned.return_value = {name: results[name].outcome for name in jobs_of(planned, combination)}
            returned.status = JobStatus.COMPLETED
            found.append(returned)
        return found


def main(arguments: Sequence[str]) -> int:
    """Exit 1 when a job of any batch did not end as expected. ConfigError passes through."""
    own = [text for text in arguments if text.startswith(("-", "hydra")) and not text.startswith(SEARCHPATH)]
    given, problems = overrides.parse([text for text in arguments if text not in own and not text.startswith(SEARCHPATH)])
    problems += [Problem(f"command line {override.text}", "Hydra cannot remove a key in a multirun", "shapeline run takes it, and sweeps too")
                 for override in given if override.how == "delete"]
    if problems:
        raise ConfigError(problems)
    sweep = Sweep([text for text in arguments if text.startswith(SEARCHPATH)],
                  {override.text.split("=", 1)[0] for override in given if override.how != "sweep"})
    output = next((str(override.value) for override in given if override.keys == ("output",)), "artifacts")
    settings = [text for text in SETTINGS if not any(text.split("=")[0] == mine.split("=")[0] for mine in own)]
    folder = f"hydra.sweep.dir={output}/multirun/${{now:%Y%m%dT%H%M%S}}"
    # To Hydra a single value is a sweep of one: it then looks for no such key in its own config.
    tasks = [override.text if override.how == "sweep" else "{}=choice({})".format(*override.text.split("=", 1)) for override in given]
    ConfigStore.instance().store(name=APP, node={})
    multirun = [] if {"-m", "--multirun"} & set(own) else ["-m"]
    sys.argv = [sys.argv[0], *multirun, *own, *settings, folder, *tasks]
    hydra.main(config_path=None, config_name=APP, version_base="1.3")(sweep)()
    if sweep.error is not None:
        raise sweep.error
    return OK if sweep.as_expected else UNEXPECTED


def planned_of(combinations: Sequence[Sequence[str]], single: Collection[str] = (), fixed: Sequence[str] = ()) -> Plan:
    """The plan that has the jobs of these combinations and no other, named as those of one sweep over all their values.

    single: keys whose one value is no sweep; fixed: further overrides.
    """
    columns: dict[str, dict[str, None]] = {}
    for combination in combinations:
        for text in combination:
            key, _, value = text.partition("=")
            columns.setdefault(key, {})[value] = None
    texts = [*fixed, *(f"{key}={next(iter(values))}" if key in single else f"{key}=choice({','.join(values)})" for key, values in columns.items())]
    planned = plan(texts)
    wanted = {name for combination in combinations for name in jobs_of(planned, combination)}
    if wanted == {job_id(job) for job in planned.jobs}:
        return planned
    return plan([*texts, f"select={overrides.quoted(' or '.join(f'={name}' for name in sorted(wanted)))}"])


def jobs_of(planned: Plan, combination: Sequence[str]) -> list[str]:
    """The ids of the jobs that one combination stands for."""
    given, _ = overrides.parse(list(combination))
    return [name for job in planned.jobs if all(_stands(override, job["model"]["name"], planned.axes[name := job_id(job)]) for override in given)]


def _stands(override: Override, model: str, axes: dict[str, Any] | Any) -> bool:
    """Whether a job with these axes is one of an override's; what is no axis concerns all jobs."""
    if override.keys == ("model",):
        return bool(Path(str(override.value)).stem == model)
    override = expansion.named(override, [model])
    keys = override.keys[1:] if override.group == "model" else override.keys
    if len(keys) > 1 and keys[0] == model:
        keys = keys[1:]
    key = ".".join(map(str, keys))
    return key not in axes or spelled(axes[key]) == spelled(override.value)
