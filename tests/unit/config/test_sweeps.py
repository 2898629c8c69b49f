"""Sweeps of a suite: products, zips, included and excluded points, their names, and everything that is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.__main__ import main
from flows.command import printing
from flows.command.exits import USAGE_ERROR
from flows.config import slugs
from flows.config.expansion import compute_digest, job_id
from flows.config.plan import plan
from flows.config.suite import Axis, Sweeps
from lowering.store import keys
from tests.unit.config.configurations import TINY, chosen, digests, not_said, planned, refused, write


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
    write(folder / "model/other.yaml", TINY)
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
    assert compute_digest(named) == compute_digest(swept) != compute_digest(other)


BAD = """
max_jobs: 10
models:
  tiny:
    sweep:
      symbols.batch.mxa: [1, 2]
      stages: [default, cores]
      seed: [1, one, 3]
      factory.width_out: []
  narrow:
    sweep: {symbols.batch.min: [1, 100]}
    zip: {seed: [1, 2], symbols.batch.max: [8, 16, 32]}
  range: {sweep: {symbols.batch.max: [8, 64], seed: [1, 1]}}
  twins:
    variants: {a: {}, a-no: {}}
    sweep: {stages.export.strict: [true, false]}
"""


def test_all_problems_of_sweeps_are_reported_before_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("narrow", TINY), ("twins", TINY), ("range", TINY.replace("max: 64}", "max: 64, example: 40}"))):
        write(folder / f"model/{name}.yaml", text)
    expected = [
        "suite/mine.yaml:3 models: expands to 20 jobs (at most 10 are allowed: drop values, or raise max_jobs)",
        "suite/mine.yaml:6 models.tiny.sweep.symbols.batch.mxa: 'symbols.batch' has no key 'mxa' (did you mean 'max'?)",
        "suite/mine.yaml:7 models.tiny.sweep.stages: there is no file of configs/stages 'cores' (did you mean 'core'?)",
        "suite/mine.yaml:8 models.tiny.sweep.seed seed: 'one' is not an integer",
        "suite/mine.yaml:9 models.tiny.sweep.factory.width_out: has no values",
        "symbols.batch: min 100 is above max 64",
        "suite/mine.yaml:12 models.narrow.zip.seed: zips lists of different lengths: seed 2, symbols.batch.max 3",
        "symbols.batch.example: 40 is not an allowed size of 2 or more ([1, 8])",
        "suite/mine.yaml:13 models.range.sweep.seed: lists 1 twice",
        "two variants would have the name 'a-no-strict'",
    ]
    found = refused(*chosen(folder, BAD))
    assert not not_said(expected, found), not_said(expected, found)
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert main(["run", *chosen(folder, BAD)]) == USAGE_ERROR
    assert f"shapeline: {len(found)} problems found" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_an_exclusion_without_effect_is_an_error(folder: Path) -> None:
    found = refused(*chosen(folder, "models: {tiny: {sweep: {seed: [1, 2]}, exclude: [{sead: 1}, {seed: 3}]}}"))
    assert any("exclude[0]: 'sead' is not a swept key (did you mean 'seed'?)" in problem for problem in found), found
    assert any("exclude[1]: leaves out no job" in problem for problem in found), found


def test_names_that_differ_by_case_only_are_one_folder_on_some_disks(folder: Path) -> None:
    assert any("two variants would have the name 'A'" in problem
               for problem in refused(*chosen(folder, "models: {tiny: {variants: {a: {}, A: {}}}}")))


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=60))
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS | st.sampled_from(["x", "no", "none", "seed1", "core"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=4)
KEYS = st.sampled_from(["seed", "stages", "symbols.batch.max", "symbols.batch.min", "symbols.seq.max", "stages.export.decompose",
                        "stages.torchscript.x", "factory.kwargs.layers", "factory.x", "inputs.a.dtype"])
AXES = st.dictionaries(KEYS, st.lists(VALUES, min_size=1, max_size=4, unique_by=slugs.spell), min_size=1, max_size=4)


def names(swept: dict[str, list[Any]]) -> dict[str, str]:
    """Slug by the values it stands for."""
    points = Sweeps(tuple(Axis(key, values, "") for key, values in swept.items())).points({})
    return {slugs.spell(sorted((axis.key, slugs.spell(value)) for axis, value in point.values)): point.slug for point in points}


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


def test_a_set_of_options_is_a_value_of_the_axis_stages(folder: Path) -> None:
    write(folder / "stages/mine.yaml", "export: {strict: true}\npackage: null\n")
    found = planned(folder, "models: {tiny: {sweep: {stages: [default, mine, fx], stages.export.archive: [true, false]}}}")
    jobs = {job["variant"]: job["stages"] for job in found.jobs}
    assert list(jobs) == ["default-archive", "default-no-archive", "mine-archive", "mine-no-archive", "fx-archive", "fx-no-archive"]
    assert (jobs["mine-archive"]["export"]["strict"], "package" in jobs["mine-archive"]) == (True, False)
    assert jobs["fx-no-archive"]["export"]["archive"] is False
    (routed,) = planned(folder, "models: [tiny]", "route=fx", "stages.export.archive=true").jobs
    assert jobs["fx-archive"] == routed["stages"]


def test_sets_of_options_on_the_command_line_mean_the_same_from_any_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "short.yaml", "package: null\n")
    monkeypatch.chdir(folder)
    found = plan(["model=mlp", "stages=default,./short.yaml"])
    assert ["package" in job["stages"] for job in found.jobs] == [True, False]
    monkeypatch.chdir("/")
    assert plan(found.overrides).jobs == found.jobs
    assert not_said(["command line stages=default,cores: there is no file of configs/stages 'cores' (did you mean 'core'?)"],
                    refused("model=mlp", "stages=default,cores")) == ""


def test_what_is_wrong_with_a_set_of_options_names_its_file(folder: Path) -> None:
    file = write(folder / "stages/mine.yaml", "export: {strikt: true}\nhmlo: null\n")
    found = refused(*chosen(folder, "models: {tiny: {sweep: {stages: [default, mine]}}}"))
    expected = [f"{file}:1 export.strikt: lowering.stages.export.Export has no option 'strikt' (did you mean 'strict'?)",
                f"{file}:2 hmlo: drops 'hmlo', but there is no such stage (did you mean 'mhlo'?)"]
    assert not not_said(expected, found), not_said(expected, found)


def test_the_ranges_suite_and_its_command_line_are_the_same_jobs_by_name_digest_and_key() -> None:
    """3 models x 4 ranges x 5 sets of options."""
    from_file = plan(["suite=ranges"])
    ranges = "model.symbols.seq.max=choice(64,128,256,512)"
    from_command = plan(["model=bert,gpt2,llama", ranges, "stages=default,core,transform,bounds,fx"])
    assert len(from_file.jobs) == 60
    assert digests(from_file) == digests(from_command)
    first, second = ({job_id(job): keys.compute(keys.list_job_parts(job, {})) for job in found.jobs} for found in (from_file, from_command))
    assert first == second
    assert len(set(first.values())) == 60


def test_the_list_of_the_ranges_suite(golden: Callable[[str, str], None]) -> None:
    golden("list-ranges.txt", printing.render_jobs(plan(["suite=ranges"])) + "\n")


WORDS: list[tuple[str, list[Any]]] = [
    ("symbols.seq.max", [128, 8192, None]), ("symbols.seq.min", [1]), ("symbols.seq.multiple_of", [8]), ("symbols.seq.example", [3]),
    ("stages", ["default", "fx", "./mine.yaml"]), ("stages.export.decompose", ["lazy", "core"]), ("stages.export.strict", [True, False]),
    ("stages.verify.levels", [["mhlo"], ["torchscript", "mhlo"]]), ("inputs.input_ids.dtype", ["int32"]),
    ("inputs.x.shape", [["batch", 3]]), ("factory.kwargs.num_hidden_layers", [2]), ("factory.kwargs.dilation", [[1, 2, 4]]),
    ("factory.kwargs.name", ["a b", "größer", "no", "namely"]), ("seed", [0, -1, 1.5]), ("weights", ["none", "random"]),
    ("constants", [{}, {"scale": 2}]), ("x" * 60, ["v" * 60]),
]


def test_the_words_of_slugs(golden: Callable[[str, str], None]) -> None:
    lines = [f"{key} = {slugs.spell(value)}: {slugs.make_word(tuple(key.split('.')), value)}" for key, values in WORDS for value in values]
    alike = [("symbols", "seq", "max"), ("stages", "one", "mode"), ("stages", "two", "mode")]
    lines += [f"beside {'.'.join(alike[2])}: {slugs.make_word(alike[1], 'on', alike)} {slugs.make_word(alike[1], True, alike)}"]
    lines += [slugs.make_slug(()), slugs.make_slug(["word"] * 30)]
    golden("slugs.txt", "\n".join(lines) + "\n")


def test_every_job_runs_in_each_environment(folder: Path) -> None:
    suite = """
environments: {own: [], nope_2: [tiny==2.0, --no-index]}
models:
  tiny: {sweep: {symbols.batch.max: [8, 16]}, include: [{seed: 9}], exclude: [{environment: own, symbols.batch.max: 16}]}
"""
    found = planned(folder, suite)
    assert [job["variant"] for job in found.jobs] == ["batch8-own", "batch8-nope_2", "batch16-nope_2", "seed9-own", "seed9-nope_2"]
    assert found.jobs[1]["environment"] == {"name": "nope_2", "requirements": ["tiny==2.0", "--no-index"]}
    assert found.axes["tiny--batch8-own"] == {"symbols.batch.max": 8, "environment": "own"}
    assert len(set(digests(found).values())) == 5
    (only, *_) = planned(folder, "models: [tiny]").jobs
    assert "environment" not in only


def test_a_requirement_that_names_no_single_version_is_refused(folder: Path) -> None:
    lines = ["tiny", "tiny>=2", "tiny==2.*", "gone.whl", "git+https://host/tiny@main", "https://host/tiny", "--editable ."]
    fine = ["tiny[extra]==2.0.dev1", f"git+https://host/tiny@{'a' * 40}", "tiny @ https://host/tiny-2.0-py3-none-any.whl", "--pre",
            "--index-url=https://host"]
    found = refused(*chosen(folder, f"models: [tiny]\nenvironments: {json.dumps({'x': lines + fine, 'a-b': []})}"))
    assert len(found) == len(lines) + 1
    assert all(f"suite/mine.yaml:2 environments.x[{index}]: '{line}'" in text
               for index, (line, text) in enumerate(zip(lines, found, strict=False)))
    assert "write name==version" in found[0] and "names no file" in found[3] and "known: --index-url" in found[6]
    assert "'a-b' cannot be a part of a job's name" in found[-1]
