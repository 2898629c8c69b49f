"""Files, values and records that are no configuration or no record: refused with file and key; what is printed is harmless."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.config import cron, yaml_files
from flows.config.plan import plan
from flows.report.exports import format_csv_row
from flows.report.terminal import escape
from lowering.errors import ConfigError
from lowering.fitting import find_misfit
from lowering.record.result import JobResult, explain_misfit
from lowering.store.provenance import UNTRACKED, digest_named_files
from tests.chaos.broken_configurations import BOMB
from tests.unit.config.configurations import TINY, refused, write


@pytest.mark.parametrize(("content", "words"), [
    (b"\xf6", "is not UTF-8: invalid start byte 0xf6"), (BOMB, "has more than 200000 values"), (b"a: &a [*a]", "'*a' contains itself"),
    (b"[" * 3000, "nests deeper than 60 levels"), (b"a: " + b"9" * 9999, "is not valid YAML: Exceeds the limit"),
    (b"a: [", "is not valid YAML"),
])
def test_a_file_that_is_no_configuration_is_named_with_its_line(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "model/bad.yaml"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(yaml_files.Unreadable, match=r".") as caught:
        yaml_files.read(file)
    assert words in str(caught.value)
    assert any("bad.yaml" in problem and words in problem for problem in refused(f"model={file}"))


@pytest.mark.parametrize(("override", "words"), [
    ("model=[]", "names no model"), ("model=tiny,tiny", "names 'tiny' twice"),
    ("cluster.workers=100000", "is not 1 or more, and at most 10000"), ("limits.stage_seconds=inf", "inf is not more than 0"),
    ("limits.retries=1000000", "at most 100"), ("output=", "is empty"), ("stages.verify.points=-1", "-1 is not 1 or more"),
    ("model.tiny.stages.verify.budget_seconds=-2", "-2 is not 0 or more"), ("cluster.gpus=[0,-1]", "cluster.gpus[1]: -1 is not 0 or more"),
    ("nightly.timezone=Mars", "'Mars' is no time zone"), ("nightly.cron=x", "'x' is no schedule: has 1 fields, not 5"),
    ("nightly.cron='0 25 * * *'", "'25' is no hour (0-23)"),
    ("model.tiny.inputs.features.fill={uniform:[a,1]}", "uniform takes [low, high]"), ("a=[b", "is not in Hydra's grammar"),
    ("model=a(", "model=a("),
])
def test_values_out_of_range_are_refused(override: str, words: str, folder: Path) -> None:
    start = () if override.startswith("model=") else ("model=tiny",)
    assert any(words in problem for problem in refused(f"hydra.searchpath=['{folder}']", *start, override))


@pytest.mark.parametrize(("change", "place", "cause", "fix"), [
    ("symbols={batch: 64}", "symbols.batch", "64 is not a mapping", "for example {batch: {min: 1, max: 64}}"),
    ("symbols={batch: {max: 2**6}}", "symbols.batch.max", "'2**6' is not an integer", "without max there is no bound"),
    ("symbols={batch-size: {min: 1}}", "symbols.batch-size", "is not a name", "batch_size"),
    ("inputs.features.shape=batch", "inputs.features.shape", "'batch' is not a list", "for example [batch, 16]"),
    ("inputs.features.shape=['?',16]", "inputs.features.shape[0]", "cannot read", "null for a size that the export decides"),
    ("inputs.features.dtype=half", "inputs.features.dtype", "'half' is not a dtype", "did you mean 'float16'?"),
    ("inputs.features.dtype=torch.int", "inputs.features.dtype", "is not a dtype", "did you mean 'int32'?"),
    ("dtype=bf16", "dtype", "cannot be converted to 'bf16'", "did you mean 'bfloat16'?"),
    ("inputs.features.fill=0", "inputs.features.fill", "0 is not one of randn", "{constant: 3}"),
    ("weights=model.safetensors", "weights", "is not one of random", "lazy and checkpoint: FILE"),
    ("quantization=int8", "quantization", "'int8' is not a mapping", "scheme: int8_weight_only"),
    ("buckets={batch: 8}", "buckets.batch", "8 is not a list", "for example {batch: [1, 8]}"),
    ("stages.verify=false", "stages.verify", "false is not a mapping", "null drops a stage"),
])
def test_a_value_of_the_wrong_form_is_refused_once_with_the_right_form(change: str, place: str, cause: str, fix: str, folder: Path) -> None:
    first, *more = refused(f"hydra.searchpath=['{folder}']", "model=tiny", f"+model.tiny.{change}")
    assert place in first and cause in first and fix in first
    assert not more or "batch-size" in change


@pytest.mark.parametrize(("overrides", "words"), [
    (["bert"], "for a model write model=bert, for a suite suite=bert"),
    (["model=tiny", "symbols.seq.max=8"], "a key of a model is written model.symbols.seq.max=8"),
    (["model=tiny", "tiny.seed=1"], "a key of a model is written model.tiny.seed=1"),
    (["model=tiny", "until=MHLO"], "did you mean 'mhlo'?"),
    (["model=tiny", "cluster.address=tcp://head:8786"], "the jobs run on threads (add cluster=dask or cluster=ray)"),
    (["model=tiny", "limits.memory_bytes=8G"], "8 GiB are 8589934592"),
    (["model=nothing_like_it"], "`shapeline list --models` prints all"),
])
def test_wrong_overrides_say_what_to_write(overrides: list[str], words: str, folder: Path) -> None:
    assert any(words in problem for problem in refused(f"hydra.searchpath=['{folder}']", *overrides))


def test_a_file_of_another_kind_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, suite = write(tmp_path / "one.yaml", TINY), write(tmp_path / "many.yaml", "models: {one: {model: one.yaml}}")
    assert [problem.partition("models")[2] for problem in refused(f"model={suite}")] == [
        ": is a key of a suite, and the file of a model is expected here (name it by suite=)"]
    assert [problem.partition("factory")[2] for problem in refused(f"suite={model}")] == [
        ": is a key of a model, and a suite is expected here (name it by model=)"]
    monkeypatch.chdir(tmp_path)
    assert any("there is no model 'one' (did you mean 'one.yaml'?)" in problem for problem in refused("model=one"))
    write(suite, "models: {one: {model: two.yaml}}")
    assert any(f"there is no file two.yaml (paths are relative to {tmp_path})" in problem for problem in refused(f"suite={suite}"))


def test_a_target_with_a_colon_is_written_with_dots(tmp_path: Path) -> None:
    file = write(tmp_path / "bare.yaml", TINY.replace("lowering.sources.mlp.MLP", "lowering.sources.mlp:MLP"))
    assert any("is not a dotted path (write lowering.sources.mlp.MLP)" in problem for problem in refused(f"model={file}"))


@pytest.mark.parametrize("text", ["0 2 * * *", "*/5 0-6 1,15 jan-mar mon", "@daily", "0 0 L * fri#2", "30 4 * * 7"])
def test_schedules_that_prefect_takes_are_taken(text: str) -> None:
    assert cron.find_problem(text) == ""


def test_files_of_one_name_and_expectations_that_are_no_file_are_refused(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a/tiny.yaml", TINY), write(tmp_path / "b/tiny.yaml", TINY)
    assert any("two files have the name 'tiny'" in problem for problem in refused(f"model=[{one},{other}]"))
    suite = write(tmp_path / "mine.yaml", f"models: {{tiny: {{model: {one}}}}}")
    assert len(plan([f"suite={suite}"]).jobs) == 1
    (tmp_path / "mine.expect.yaml").symlink_to("nowhere")
    assert any("is a link to a file that does not exist" in problem for problem in refused(f"suite={suite}"))
    (tmp_path / "mine.expect.yaml").unlink()
    (tmp_path / "mine.expect.yaml").mkdir()
    assert any("mine.expect.yaml" in problem and "not a regular file" in problem for problem in refused(f"suite={suite}"))


def test_what_is_printed_does_not_act_on_a_terminal() -> None:
    assert escape("a\x1b[31m\u202eb\ud800\n\tgröße") == "a\\x1b[31m\\u202eb\\ud800\n\tgröße"


def test_cells_of_csv_are_no_formulas() -> None:
    assert format_csv_row(["=1+1", "+a", "-b", "@c", -3, 0.5, None, "a\rb", 'say "x"', "plain", "\n=1", "\uff1d1"]) == (
        "'=1+1,'+a,'-b,'@c,-3,0.5,,\"a\rb\",\"say \"\"x\"\"\",plain,\"'\n=1\",'\uff1d1")


def test_a_text_that_names_a_huge_folder_hashes_nothing(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    assert digest_named_files({"a": ["/"], "b": "~nobody-of-that-name/x", "c": "/dev/zero", "d": "x" * 900 + "/"}) == {"/": UNTRACKED}
    assert list(digest_named_files([f"{tmp_path}/"])) == [str(tmp_path / "one")]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3),
                    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
    st.sampled_from(("id", "model", "variant", "outcome", "stages", "seconds")), inner, max_size=4), max_leaves=6))
@settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_whatever_fits_can_be_built(data: object) -> None:
    if not explain_misfit(data):
        JobResult.from_json(data)  # type: ignore[arg-type]


def test_a_misfit_names_its_key() -> None:
    good = {"id": "a--b", "model": "a", "variant": "b", "outcome": "ok"}
    assert find_misfit(JobResult, good) == ""
    assert find_misfit(JobResult, {**good, "stages": [{"name": "x", "outcome": "ok", "seconds": "1"}]}) == (
        "stages[0].seconds: '1' is not a number")
    assert find_misfit(JobResult, {}) == "id: is missing" and find_misfit(JobResult, []) == ": [] is not a mapping"
    with pytest.raises(ConfigError):
        plan(["model=a("])


def test_a_model_without_inputs_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "bare.yaml", "factory: {_target_: lowering.sources.mlp.MLP, width_in: 1, width_hidden: 1, width_out: 1}")
    assert any("is empty" in problem and "at least one input" in problem for problem in refused(f"model={file}"))
