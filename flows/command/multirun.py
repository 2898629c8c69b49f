"""`shapeline multirun KEY=V1,V2 ...`: sweep with Hydra. One of its sweepers makes the combinations, and one flow run lowers all of them."""

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
from flows.config.expansion import job_id
from flows.config.overrides import Override
from flows.config.plan import Plan, plan
from flows.config.slugs import spell
from flows.runs import record
from lowering.errors import ConfigError, Problem

APP = "shapeline_multirun"  # the (empty) primary config: pipeline.yaml is composed by the plan
# Hydra's logging would replace the process's own. Its sweep folder holds only multirun.yaml; the jobs' files are in the run's folder.
SETTINGS = ("hydra/launcher=prefect", "hydra/sweeper=pipeline", "hydra/hydra_logging=disabled", "hydra/job_logging=disabled",
            "hydra.output_subdir=null")
SEARCHPATH = "hydra.searchpath="


@dataclass
class Sweep:
    """The task function that Hydra sweeps. The launcher makes it lower all combinations as one run.

    fixed: overrides that only the plan reads. single: keys with one value, which are not swept.
    as_expected: whether all jobs so far ended as expected.
    """

    fixed: Sequence[str] = ()
    single: Collection[str] = ()
    as_expected: bool = True
    error: ConfigError | None = None

    def __call__(self, config: Any) -> None:
        fix = "omit it: the default, prefect, lowers all jobs as one run"
        raise ConfigError(Problem("hydra/launcher", "lowers one job at a time", fix))

    def launch(self, combinations: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        """Lower the jobs of all combinations as one run, and return {job id: outcome} for each.

    first: number of the first combination.
    """
        from flows import execution  # imported here so that an invalid sweep is refused without the report
        from flows.report import report

        try:
            planned = plan_combinations(combinations, self.single, self.fixed)
        except ConfigError as error:  # Hydra would print a traceback: `main` re-raises it instead
            self.error = error
            return [JobReturn(overrides=list(combination), _return_value={}, status=JobStatus.COMPLETED) for combination in combinations]
        folder = execution.lower_suite(planned)
        self.as_expected &= report.is_as_expected(folder)
        results = {result.id: result for result in record.load(folder).results()}
        found = []
        for number, combination in enumerate(combinations, first):
            returned = JobReturn(overrides=list(combination), working_dir=str(folder), task_name=f"{folder.name}#{number}")
            returned.return_value = {name: results[name].outcome for name in find_jobs(planned, combination)}
            returned.status = JobStatus.COMPLETED
            found.append(returned)
        return found


def main(arguments: Sequence[str]) -> int:
    """Run the command; exit 1 if a job of any batch did not end as expected. ConfigError passes through."""
    own = [text for text in arguments if text.startswith(("-", "hydra")) and not text.startswith(SEARCHPATH)]
    given, problems = overrides.parse([text for text in arguments if text not in own and not text.startswith(SEARCHPATH)])
    fix = "use shapeline run, which accepts it and sweeps too"
    problems += [Problem(f"command line {override.text}", "Hydra cannot remove a key in a multirun", fix)
                 for override in given if override.how == "delete"]
    if problems:
        raise ConfigError(problems)
    sweep = Sweep([text for text in arguments if text.startswith(SEARCHPATH)],
                  {override.text.split("=", 1)[0] for override in given if override.how != "sweep"})
    output = next((str(override.value) for override in given if override.keys == ("output",)), "artifacts")
    settings = [text for text in SETTINGS if not any(text.split("=")[0] == mine.split("=")[0] for mine in own)]
    folder = f"hydra.sweep.dir={output}/multirun/${{now:%Y%m%dT%H%M%S}}"
    # A single value is given to Hydra as a sweep of one value: Hydra then does not look for the key in its own config.
    tasks = [override.text if override.how == "sweep" else "{}=choice({})".format(*override.text.split("=", 1)) for override in given]
    ConfigStore.instance().store(name=APP, node={})
    multirun = [] if {"-m", "--multirun"} & set(own) else ["-m"]
    sys.argv = [sys.argv[0], *multirun, *own, *settings, folder, *tasks]
    hydra.main(config_path=None, config_name=APP, version_base="1.3")(sweep)()
    if sweep.error is not None:
        raise sweep.error
    return OK if sweep.as_expected else UNEXPECTED


def plan_combinations(combinations: Sequence[Sequence[str]], single: Collection[str] = (), fixed: Sequence[str] = ()) -> Plan:
    """Return the plan of exactly the jobs of these combinations, named as in one sweep over all their values.

    single: keys with one value, which are not swept. fixed: further overrides.
    """
    columns: dict[str, dict[str, None]] = {}
    for combination in combinations:
        for text in combination:
            key, _, value = text.partition("=")
            columns.setdefault(key, {})[value] = None
    texts = [*fixed, *(f"{key}={next(iter(values))}" if key in single else f"{key}=choice({','.join(values)})"
                       for key, values in columns.items())]
    planned = plan(texts)
    wanted = {name for combination in combinations for name in find_jobs(planned, combination)}
    if wanted == {job_id(job) for job in planned.jobs}:
        return planned
    return plan([*texts, f"select={overrides.quote(' or '.join(f'={name}' for name in sorted(wanted)))}"])


def find_jobs(planned: Plan, combination: Sequence[str]) -> list[str]:
    """Return the ids of the jobs of one combination."""
    given, _ = overrides.parse(list(combination))
    return [name for job in planned.jobs
            if all(_is_selected(override, job["model"]["name"], planned.axes[name := job_id(job)]) for override in given)]


def _is_selected(override: Override, model: str, axes: dict[str, Any] | Any) -> bool:
    """Return whether an override selects a job with these axes. An override of a key that is not an axis selects all jobs."""
    if override.keys == ("model",):
        return bool(Path(str(override.value)).stem == model)
    override = expansion.join_model_name(override, [model])
    keys = override.keys[1:] if override.group == "model" else override.keys
    if len(keys) > 1 and keys[0] == model:
        keys = keys[1:]
    key = ".".join(map(str, keys))
    return key not in axes or spell(axes[key]) == spell(override.value)
