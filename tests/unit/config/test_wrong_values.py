"""Values that users write by mistake, each refused once, before anything runs, with the key and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.config.plan import plan
from tests.unit.config.configurations import TINY, chosen, refused, write

LONG = "a" * 5000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "model/tiny.yaml", TINY)
    return tmp_path


@pytest.mark.parametrize(("change", "place", "words"), [
    ("quantization={scheme: int8}", "quantization.scheme", "'int8' is not one of int8_weight_only"),
    ("quantization={shceme: int8_dynamic}", "quantization.shceme", "did you mean 'scheme'?"),
    ("quantization={scheme: pt2e_static, calibration: /}", "quantization.calibration", "/ is a folder (name a file)"),
    ("libraries=[{module: no.such.ops}]", "libraries[0].module", "there is no module no.such.ops (install the package"),
    ("libraries=['~nobody-here/x.so']", "libraries[0]", "file ~nobody-here/x.so does not exist"),
    ("custom_calls={aten.gelu: {target: ''}}", "custom_calls.aten.gelu.target", "is empty"),
    ("method=''", "method", "'' is not the name of a method"),
    ("method=a..b", "method", "'a..b' is not the name of a method (for example forward, or model.encoder)"),
    ("entries={decoder: null}", "entries.decoder", "drops 'decoder', but there is no such entry (entries: none)"),
    ("entries={decode: {}, decoder: null}", "entries.decoder", "did you mean 'decode'?"),
    ("symbols={batch: {max: 10000000000}}", "symbols.batch.max", "sizes are at most 2147483647; without max there is no bound"),
    ("inputs.features.pad=zero", "inputs.features.pad", "'zero' is not a number (a number, for example pad: 0)"),
    ("inputs.features.state=1", "inputs.features.state", "true, or the name of the result"),
    ("stages.verify.levels=[mhl]", "stages.verify.levels[0]", "did you mean 'mhlo'?"),
    ("stages.verify.platforms=[tpu]", "stages.verify.platforms[0]", "'tpu' is not one of cpu, gpu"),
    ("stages.verify.values=[edge]", "stages.verify.values[0]", "did you mean 'edges'?"),
    ("stages.verify.steps=-1", "stages.verify.steps", "-1 is not 0 or more"),
])
def test_a_wrong_value_of_a_model_is_refused_once(change: str, place: str, words: str, folder: Path) -> None:
    (problem,) = refused(f"hydra.searchpath=['{folder}']", "model=tiny", f"+model.tiny.{change}")
    assert place in problem and words in problem


@pytest.mark.parametrize(("suite", "place", "words"), [
    ("sweep: {environment: [a, b]}", "sweep.environment", "declare the environments"),
    ("zip: {environment: [a, b], seed: [1, 2]}", "zip.environment", "declare the environments"),
    ("environments: {a: [torch==2.12.1, 'Torch == 2.11.0']}", "environments.a[1]", "names torch again"),
    ("sweep: {seed: [0]}\nexclude: [{seed: 0}]", "exclude", "leaves no job"),
])
def test_a_wrong_suite_is_refused_once(suite: str, place: str, words: str, folder: Path) -> None:
    (problem,) = refused(*chosen(folder, f"models: [tiny]\n{suite}\n"))
    assert place in problem and words in problem


def test_an_included_job_cannot_choose_its_environment(folder: Path) -> None:
    suite = "models: {tiny: {include: [{environment: a, seed: 1}]}}\nenvironments: {a: []}\n"
    assert any("models.tiny.include[0]: is no key of a model" in problem for problem in refused(*chosen(folder, suite)))


@pytest.mark.parametrize(("overrides", "words"), [
    (["limits.memory_bytes=8"], "limits.memory_bytes: 8 is not 1048576 or more (in bytes: 8 GiB are 8589934592)"),
    (["cluster.memory_bytes=1"], "cluster.memory_bytes: 1 is not 1048576 or more"),
    (["shard=1"], "the first of four shards is 1/4"),
    (["durations=nope.json"], "nope.json cannot be read: No such file or directory"),
    (["max_jobs=5"], "a key of the suite is written suite.max_jobs=5"),
    (["~tiny.seed"], "a key of a model is written ~model.tiny.seed"),
    (["~stages.nope"], "'stages' has no key 'nope' (known: export, transform"),
    (["nightly.tracker.repository=a/b"], "nightly.tracker.kind: is null, and repository is given (set it to github"),
    (["nightly.tracker.kind=github", "nightly.tracker.repository=a/b", "nightly.tracker.url=file:///etc"], "is not the address of an API"),
    ([f"cluster={LONG}"], "there is no cluster 'aaaa"),
    ([f"stages={LONG}"], "there is no file of configs/stages 'aaaa"),
    ([f"hydra.searchpath=[{LONG}]"], "there is no folder"),
])
def test_a_wrong_override_is_refused(overrides: list[str], words: str, folder: Path) -> None:
    start = () if overrides[0].startswith("hydra") else (f"hydra.searchpath=['{folder}']",)
    assert any(words in problem for problem in refused(*start, "model=tiny", *overrides))


@pytest.mark.parametrize("choice", [f"suite={LONG}", f"model={LONG}", f"model={LONG}.yaml", "model='~nobody-here/x.yaml'"])
def test_a_name_of_no_file_is_refused_as_such(choice: str) -> None:
    (problem,) = refused(choice)
    assert "there is no" in problem


def test_an_entry_that_is_implied_or_declared_below_can_be_dropped(folder: Path) -> None:
    write(folder / "model/two.yaml", f"{TINY}entries: {{a: {{}}, b: {{}}}}\n")
    assert len(plan([f"hydra.searchpath=['{folder}']", "model=two", "model.two.entries.b=null"]).jobs) == 1
