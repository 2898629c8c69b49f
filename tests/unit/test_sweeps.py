"""Sweeps of a suite: products, zips, included and excluded points, their names, and everything that is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import slugs
from flows.expansion import digest, job_id
from flows.planning import Plan, plan
from flows.suite import Axis, Sweeps
from lowering.errors import ConfigError

TINY = """
factory: {_target_: lowering.sources.mlp.MLP, width_in: 16, width_hidden: 32, width_out: 8}
inputs:
  features: {dtype: float32, shape: [batch, 16]}
symbols:
  batch: {min: 1, max: 64}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of configurations with one model, `tiny`."""
    for group in ("model", "suite"):
        (tmp_path / group).mkdir()
    (tmp_path / "model/tiny.yaml").write_text(TINY)
    return tmp_path


def planned(folder: Path, suite: str, *overrides: str) -> Plan:
    (folder / "suite/mine.yaml").write_text(suite)
    return plan([f"hydra.searchpath=['{folder}']", "suite=mine", *overrides])


def digests(found: Plan) -> dict[str, str]:
    return {job_id(job): digest(job) for job in found.jobs}


def refused(folder: Path, suite: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        planned(folder, suite)
    return [str(problem) for problem in caught.value.problems]


def test_a_zip_is_one_axis(folder: Path) -> None:
    suite = "models: {tiny: {zip: {symbols.batch.max: [8, 16], seed: [1, 2]}, sweep: {stages.export.strict: [true, false]}}}"
    found = planned(folder, suite)
    assert [job["variant"] for job in found.jobs] == ["batch8-strict-seed1", "batch8-no-strict-seed1", "batch16-strict-seed2",
                                                      "batch16-no-strict-seed2"]
    assert {(job["model"]["symbols"]["batch"]["max"], job["model"]["seed"]) for job in found.jobs} == {(8, 1), (16, 2)}


def test_points_are_excluded_by_their_values_and_included_beside_the_product(folder: Path) -> None:
    found = planned(folder, """
models:
  tiny:
    sweep: {symbols.batch.max: [8, 16, 32], seed: [1, 2]}
    exclude: [{symbols.batch.max: [16, 32], seed: 2}]
    include: [{symbols.batch.max: 64, seed: 9}, {stages.export.decompose: core}]
""")
    assert [job["variant"] for job in found.jobs] == ["batch8-seed1", "batch8-seed2", "batch16-seed1", "batch32-seed1",
                                                      "batch64-seed9", "core"]
    assert found.axes["tiny--batch64-seed9"] == {"symbols.batch.max": 64, "seed": 9}


def test_a_suite_excludes_in_all_its_models(folder: Path) -> None:
    (folder / "model/other.yaml").write_text(TINY)
    found = planned(folder, "models: [tiny, other]\nsweep: {seed: [1, 2]}\nexclude: [{seed: 2}]")
    assert [job_id(job) for job in found.jobs] == ["tiny--seed1", "other--seed1"]


def test_a_variant_is_a_value_to_exclude_by(folder: Path) -> None:
    found = planned(folder, """
models:
  tiny:
    variants: {a: {}, b: {seed: 7}}
    sweep: {symbols.batch.max: [8, 16]}
    exclude: [{variant: b, symbols.batch.max: 8}]
""")
    assert [job["variant"] for job in found.jobs] == ["a-batch8", "a-batch16", "b-batch16"]
    assert found.axes["tiny--b-batch16"] == {"variant": "b", "symbols.batch.max": 16}


def test_the_order_of_keys_and_values_changes_no_job(folder: Path) -> None:
    sweep = {"symbols.batch.max": [8, 16], "stages.export.decompose": ["lazy", "core"], "seed": [1, 2]}
    turned = {key: values[::-1] for key, values in reversed(sweep.items())}
    found, again = (digests(planned(folder, json.dumps({"models": {"tiny": {"sweep": one}}}))) for one in (sweep, turned))
    assert len(found) == 8
    assert found == again


def test_a_digest_is_of_the_job_and_not_of_its_name(folder: Path) -> None:
    (named,) = planned(folder, "models: {tiny: {variants: {eight: {symbols: {batch: {max: 8}}}}}}").jobs
    (swept,) = planned(folder, "models: {tiny: {sweep: {symbols.batch.max: [8]}}}").jobs
    (other,) = planned(folder, "models: {tiny: {sweep: {symbols.batch.max: [9]}}}").jobs
    assert job_id(named) != job_id(swept)
    assert digest(named) == digest(swept) != digest(other)


def test_everything_wrong_with_sweeps_is_said_at_once(folder: Path) -> None:
    (folder / "model/narrow.yaml").write_text(TINY)
    (folder / "model/range.yaml").write_text(TINY.replace("max: 64}", "max: 64, example: 40}"))
    found = refused(folder, """
max_jobs: 10
models:
  tiny:
    variants: {a: {}, a-no: {}}
    sweep:
      symbols.batch.mxa: [1, 2]
      stages.export.strict: [true, false]
      seed: [1, one]
      factory.width_out: []
  narrow:
    sweep: {symbols.batch.min: [1, 100]}
    zip: {seed: [1, 2], symbols.batch.max: [8, 16, 32]}
    exclude: [{sead: 1}, {symbols.batch.min: 7}]
  range: {sweep: {symbols.batch.max: [8, 64], seed: [1, 1]}}
""")
    expected = [
        "suite/mine.yaml:3 models: expands to 20 jobs (at most 10; drop values, or raise max_jobs)",
        "suite/mine.yaml:7 models.tiny.sweep.symbols.batch.mxa: 'symbols.batch' has no key 'mxa' (did you mean 'max'?)",
        "suite/mine.yaml:9 models.tiny.sweep.seed seed: 'one' is not an integer",
        "suite/mine.yaml:10 models.tiny.sweep.factory.width_out: has no values",
        "symbols.batch: min 100 is not below max 64",
        "suite/mine.yaml:13 models.narrow.zip.seed: zips lists of different lengths: seed 2, symbols.batch.max 3",
        "symbols.batch.example: 40 is not an allowed size of 2 or more ([1, 8])",
        "suite/mine.yaml:15 models.range.sweep.seed: lists 1 twice",
    ]
    missed = [text for text in expected if not any(text in problem for problem in found)]
    assert not missed, "\n".join(["not said:", *missed, "said:", *found])


def test_an_exclusion_that_leaves_out_nothing_is_a_mistake(folder: Path) -> None:
    found = refused(folder, "models: {tiny: {sweep: {seed: [1, 2]}, exclude: [{sead: 1}, {seed: 3}]}}")
    assert any("exclude[0]: 'sead' is no key that is swept (did you mean 'seed'?)" in problem for problem in found), found
    assert any("exclude[1]: leaves out no job" in problem for problem in found), found


def test_names_that_differ_by_case_only_are_one_folder_on_some_disks(folder: Path) -> None:
    assert any("two variants would be called 'A'" in problem for problem in refused(folder, "models: {tiny: {variants: {a: {}, A: {}}}}"))


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=60))
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS | st.sampled_from(["x", "no", "none", "seed1", "core"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=4)
KEYS = st.sampled_from(["seed", "symbols.batch.max", "symbols.batch.min", "symbols.seq.max", "stages.export.decompose",
                        "stages.torchscript.x", "factory.kwargs.layers", "factory.x", "inputs.a.dtype"])
AXES = st.dictionaries(KEYS, st.lists(VALUES, min_size=1, max_size=4, unique_by=slugs.spelled), min_size=1, max_size=4)


def names(swept: dict[str, list[Any]]) -> dict[str, str]:
    """Slug by the values it stands for."""
    points = Sweeps(tuple(Axis(key, values, "") for key, values in swept.items())).points({})
    return {slugs.spelled(sorted((axis.key, slugs.spelled(value)) for axis, value in point.values)): point.slug for point in points}


@settings(max_examples=200, deadline=None)
@given(AXES, st.randoms())
def test_a_points_name_depends_on_its_values_alone(swept: dict[str, list[Any]], random: Any) -> None:
    shuffled = {key: random.sample(swept[key], len(swept[key])) for key in random.sample(list(swept), len(swept))}
    fewer = {key: values[: random.randint(1, len(values))] for key, values in shuffled.items()}
    whole = names(swept)
    assert names(shuffled) == whole
    assert names(fewer).items() <= whole.items()


@settings(max_examples=200, deadline=None)
@given(AXES)
def test_names_are_valid_and_tell_points_apart(swept: dict[str, list[Any]]) -> None:
    found = names(swept)
    assert all(slugs.NAME.fullmatch(name) for name in found.values())
    assert len(set(found.values())) == len(found)


def test_the_ranges_suite_and_its_command_line_are_the_same_jobs() -> None:
    from_file = plan(["suite=ranges"])
    swept = from_file.config["suite"]
    (models, sweep) = (list(swept["models"]), swept["sweep"])
    typed = [f"model.{key}=choice({','.join(map(str, values))})" for key, values in sweep.items()]
    from_command = plan([f"model={','.join(models)}", *typed])
    assert len(from_file.jobs) == 60
    assert digests(from_file) == digests(from_command)
