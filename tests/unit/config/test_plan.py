"""From overrides to jobs: composition, variants, sweeps and their precedence."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from flows.config import declarations, overrides
from flows.config import run as config
from flows.config.compose import ROOT, Folders
from flows.config.expansion import job_id
from flows.config.plan import Plan, plan
from lowering import recipe
from lowering.errors import ConfigError
from lowering.job import DescribedJob, Job
from lowering.store import memory
from lowering.worker import asking, client
from tests.unit.config.configurations import TINY, planned, refused, write


def only(found: Plan) -> dict[str, Any]:
    (job,) = found.jobs
    return dict(job)



def test_every_suite_and_model_of_the_project_is_sound() -> None:
    folders = Folders()
    for name in folders.names("suite"):
        assert plan([f"suite={name}"]).jobs
    assert {job["model"]["name"] for job in plan([f"model=[{','.join(folders.names('model'))}]"]).jobs} == (
        {Path(name).name for name in folders.names("model")})


def test_the_quickstart_holds_resnet_with_and_without_dynamic_image_sizes() -> None:
    jobs = {job_id(job): job for job in plan().jobs}
    assert set(jobs["resnet--batch"]["model"]["symbols"]) == {"batch"}
    assert set(jobs["resnet--image"]["model"]["symbols"]) == {"batch", "height", "width"}
    assert list(jobs["resnet--image"]["model"]["inputs"]["pixel_values"]["shape"]) == ["batch", 3, "height", "width"]
    assert {"mlp--default", "bert--default", "llama--default", "gpt2--default", "vit--default"} <= set(jobs)


def test_an_override_changes_one_key_of_one_model() -> None:
    before, after = plan(), plan(["model.bert.symbols.seq.max=128"])
    changed = [(old, new) for old, new in zip(before.jobs, after.jobs, strict=True) if old != new]
    ((old, new),) = changed
    assert job_id(new) == "bert--default"
    assert new["model"]["symbols"]["seq"] == {**old["model"]["symbols"]["seq"], "max": 128}


def test_the_command_line_wins_over_a_variant_and_a_variant_over_the_file(folder: Path) -> None:
    suite = "models: {tiny: {variants: {plain: {}, seeded: {seed: 3, symbols: {batch: {max: 32}}}}}}"
    by_variant = {job["variant"]: job["model"] for job in planned(folder, suite).jobs}
    assert (by_variant["plain"]["seed"], by_variant["plain"]["symbols"]["batch"]["max"]) == (0, 64)
    assert (by_variant["seeded"]["seed"], by_variant["seeded"]["symbols"]["batch"]["max"]) == (3, 32)
    assert by_variant["seeded"]["symbols"]["batch"]["min"] == 1
    overridden = planned(folder, suite, "model.tiny.seed=7")
    assert [job["model"]["seed"] for job in overridden.jobs] == [7, 7]


def test_a_key_without_a_model_name_goes_to_every_model() -> None:
    jobs = plan(["model=bert,gpt2", "model.symbols.batch.max=4"]).jobs
    assert [job["model"]["symbols"]["batch"]["max"] for job in jobs] == [4, 4]


def test_stage_options_for_all_and_for_one_model(folder: Path) -> None:
    suite = "models: {tiny: {variants: {plain: {}, core: {stages: {export: {decompose: core}}}}}}"
    plain, core = planned(folder, suite, "stages.torchscript.deployable=false").jobs
    assert "decompose" not in plain["stages"]["export"]
    assert core["stages"]["export"]["decompose"] == "core"
    assert [job["stages"]["torchscript"]["deployable"] for job in (plain, core)] == [False, False]
    assert only(planned(folder, "models: [tiny]", "model.tiny.stages.export.strict=true"))["stages"]["export"]["strict"] is True


def test_stages_can_be_dropped_from_the_end_but_not_from_the_middle(folder: Path) -> None:
    last = list(only(plan(["model=mlp"]))["stages"])[-1]
    assert last not in only(plan(["model=mlp", f"~stages.{last}"]))["stages"]
    (broken,) = refused("model=mlp", "~stages.torchscript")
    assert "stages.torch" in broken
    assert "takes torchscript, but export gives exported" in broken


def test_a_file_of_stages_changes_and_drops_some(folder: Path) -> None:
    names = list(only(plan(["model=mlp"]))["stages"])
    dropped = names[names.index("torch") + 1:]
    write(folder / "stages/short.yaml", "".join(["export: {strict: true}\n", *(f"{name}: null\n" for name in dropped)]))
    job = only(planned(folder, "models: [tiny]", "stages=short"))
    assert list(job["stages"]) == ["export", "torchscript", "torch"]
    assert job["stages"]["export"]["strict"] is True
    write(folder / "stages/short.yaml", "export: {strikt: true}\nhmlo: null\n")
    first, second = refused(f"hydra.searchpath=['{folder}']", "model=mlp", "stages=short")
    assert first == f"{folder}/stages/short.yaml:2 hmlo: drops 'hmlo', but there is no such stage (did you mean 'mhlo'?)"
    assert second.startswith(f"{folder}/stages/short.yaml:1 export.strikt: ")


def test_a_loss_is_checked_against_its_declaration(folder: Path) -> None:
    loss = "{_target_: torch.nn.functional.mse_loss, outputs: {inpt: output}, targets: {target: wanted}, reductoin: sum}"
    write(folder / "model/trained.yaml", f"defaults: [mlp_training, _self_]\nloss: {loss}\n")
    found = refused(f"hydra.searchpath=['{folder}']", "model=trained")
    assert [problem.partition("trained.yaml:2 ")[2] for problem in found] == [
        "loss.reductoin: torch.nn.functional.mse_loss has no argument 'reductoin' (did you mean 'reduction'?)",
        "loss.outputs.inpt: torch.nn.functional.mse_loss has no argument 'inpt' (did you mean 'input'?)",
    ]
    assert refused("model=mlp_training", "model.loss._target_=torch.nn.functional.mse_los") == [
        "command line model.loss._target_: torch.nn.functional.mse_los: torch.nn.functional has no 'mse_los' (did you mean 'mse_loss'?)"
    ]


def test_until_names_a_level_of_the_ladder() -> None:
    assert only(plan(["model=mlp", "until=torchscript"]))["until"] == "torchscript"
    assert refused("model=mlp", "until=torchscritp") == [
        "command line until: no stage produces the level 'torchscritp' (did you mean 'torchscript'?)"
    ]


def test_a_sweep_is_the_product_of_its_axes_with_readable_slugs(folder: Path) -> None:
    suite = "models: {tiny: {sweep: {symbols.batch.max: [8, 16], stages.export.decompose: [lazy, core], seed: [1, 2]}}}"
    found = planned(folder, suite)
    variants = [job["variant"] for job in found.jobs]
    assert variants[:4] == ["batch8-lazy-seed1", "batch8-lazy-seed2", "batch8-core-seed1", "batch8-core-seed2"]
    assert len(found.jobs) == 8
    job = next(job for job in found.jobs if job["variant"] == "batch16-core-seed2")
    assert (job["model"]["symbols"]["batch"]["max"], job["stages"]["export"]["decompose"], job["model"]["seed"]) == (16, "core", 2)


def test_a_sweep_on_the_command_line_gives_the_jobs_of_one_in_a_suite(folder: Path) -> None:
    swept = planned(folder, "models: {tiny: {sweep: {symbols.batch.max: [8, 16], stages.export.decompose: [lazy, core]}}}")
    typed = planned(folder, "models: [tiny]", "model.tiny.symbols.batch.max=choice(8,16)", "stages.export.decompose=lazy,core")
    assert typed.jobs == swept.jobs


def test_slugs_stay_distinct_where_values_read_alike(folder: Path) -> None:
    sweep = "{seed: [1, 2], capacities: [{}, {u0: 2}], stages.torchscript.deployable: [true, false]}"
    variants = [job["variant"] for job in planned(folder, f"models: {{tiny: {{sweep: {sweep}}}}}").jobs]
    assert len(set(variants)) == 8
    assert variants[0] == "deployable-capacities.44136fa3-seed1"
    assert variants[-1].startswith("no-deployable-capacities.") and variants[-1].endswith("-seed2")


def test_globs_take_the_models_that_no_entry_names(folder: Path) -> None:
    write(folder / "model/tiny_wide.yaml", TINY)
    found = planned(folder, "models: {'tiny*': , tiny: {variants: {one: {seed: 1}}}}")
    assert sorted(job_id(job) for job in found.jobs) == ["tiny--one", "tiny_wide--default"]


def test_interpolations_read_values_of_variants_and_overrides(folder: Path) -> None:
    write(folder / "model/linked.yaml", TINY.replace("width_out: 8", "width_out: '${..seed}'") + "seed: 8\n")
    suite = "models: {linked: {variants: {eight: {}, four: {seed: 4}}}}"
    assert [job["model"]["factory"]["width_out"] for job in planned(folder, suite).jobs] == [8, 4]
    assert [job["model"]["factory"]["width_out"] for job in planned(folder, suite, "model.linked.seed=2").jobs] == [2, 2]


def test_a_model_can_extend_another(folder: Path) -> None:
    write(folder / "model/wide.yaml", "defaults: [tiny, _self_]\nfactory: {width_hidden: 512}\n")
    factory = only(planned(folder, "models: [wide]"))["model"]["factory"]
    assert (factory["width_in"], factory["width_hidden"]) == (16, 512)


def test_files_given_by_path_work_from_any_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "elsewhere/suite.yaml", "models: {mine: {model: ../model/tiny.yaml}, mlp: }")
    monkeypatch.chdir(folder)
    by_suite = plan(["suite=elsewhere/suite.yaml"])
    assert [job_id(job) for job in by_suite.jobs] == ["mine--default", "mlp--default"]
    by_model = plan(["model=./model/tiny.yaml"])
    assert [job_id(job) for job in by_model.jobs] == ["tiny--default"]
    monkeypatch.chdir("/")
    assert plan(by_suite.overrides).jobs == by_suite.jobs
    assert plan(by_model.overrides).jobs == by_model.jobs


def test_the_overrides_of_a_plan_give_it_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "suite/mine.yaml", "models: [tiny, mlp]")
    monkeypatch.chdir(folder)
    first = plan(["hydra.searchpath=[.]", "suite=mine", "select='tiny or nothing'", "model.tiny.seed=3"])
    monkeypatch.chdir("/")
    assert plan(first.overrides) == first
    assert [job_id(job) for job in first.jobs] == ["tiny--default"]
    assert first.total == 2


def test_a_job_survives_json(folder: Path) -> None:
    for data in plan(["suite=quickstart"]).jobs:
        job = Job.from_json(data)
        assert job.id == job_id(data)
        assert Job.from_json(json.loads(job.dumps())) == job


@pytest.fixture
def forgetful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stage has been accepted before."""
    monkeypatch.setenv("SHAPELINE_STATE", str(tmp_path))
    monkeypatch.setattr(memory, "_known", {})
    monkeypatch.setattr(memory, "_new", {})


@pytest.mark.usefixtures("forgetful")
def test_stages_that_were_accepted_before_are_not_imported_again() -> None:
    for suite in ("quickstart", "training", "ranges"):
        planned = plan([f"suite={suite}"])
        built = [Job.from_json(data).to_json() for data in planned.jobs]
        for _ in range(2):  # the first time, the options of some stages are not known
            run = config.build(planned)
            assert [json.loads(json.dumps(job.to_json())) for job in run.jobs] == json.loads(json.dumps(built))
        assert all(isinstance(job, DescribedJob) for job in run.jobs)
    memory.save()
    code = "import sys; from flows.config import run; run.load(['suite=ranges']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.usefixtures("forgetful")
def test_stages_that_another_process_instantiates_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch, light_server: None) -> None:
    for suite in ("ranges", "training"):
        planned = plan([f"suite={suite}"])
        with monkeypatch.context() as patch:
            patch.setattr(config, "_instantiate", lambda planned: pytest.fail("a stage was instantiated here"))
            run = config.build(planned, asking.describe)
        assert [job.to_json() for job in run.jobs] == [json.loads(Job.from_json(data).dumps()) for data in planned.jobs]
        again = config.build(planned, lambda specs: pytest.fail("asked again"))
        assert [job.to_json() for job in again.jobs] == [job.to_json() for job in run.jobs]


@pytest.mark.usefixtures("forgetful", "light_server")
def test_a_stage_that_refuses_its_options_elsewhere_is_refused_once() -> None:
    planned = plan(["model=mlp,mlp_training"])
    names = list(planned.jobs[0]["stages"])
    wrong = {"_target_": "lowering.stages.missing.Missing"}
    jobs = tuple({**data, "stages": {**data["stages"], names[-1]: wrong}} for data in planned.jobs)
    with pytest.raises(ConfigError) as here:
        config.build(dataclasses.replace(planned, jobs=jobs))
    with pytest.raises(ConfigError) as elsewhere:
        config.build(dataclasses.replace(planned, jobs=jobs), asking.describe)
    assert elsewhere.value.problems == here.value.problems
    assert len(here.value.problems) == 1


@pytest.mark.usefixtures("forgetful", "light_server")
def test_a_module_of_a_stage_that_fails_elsewhere_fails_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_stage.py").write_text("raise RuntimeError('of its own')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(client, "_servers", {})  # one that finds the module
    planned = plan(["model=mlp"])
    jobs = ({**planned.jobs[0], "stages": {"export": {"_target_": "broken_stage.Stage"}}},)
    with pytest.raises(RuntimeError, match="of its own"):
        config.build(dataclasses.replace(planned, jobs=jobs), asking.describe)
    client.get_server().close()


def test_planning_does_not_load_the_compilers() -> None:
    code = "import sys; from flows.config.plan import plan; plan(); print(*{'torch', 'prefect', 'jaxlib', 'torch_mlir'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == ""


def test_what_is_read_of_a_stage_without_importing_it_is_what_it_declares() -> None:
    for spec in only(plan(["model=mlp"]))["stages"].values():
        kind = recipe.locate(spec[recipe.TARGET])
        declared = declarations.load_stage(spec[recipe.TARGET])
        hints = typing.get_type_hints(kind)
        assert (declared.source, declared.target) == (kind.source, kind.target)
        assert dict(declared.options.types) == {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def test_a_running_hydra_is_left_as_it_is() -> None:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        before = GlobalHydra.instance().hydra
        plan(["model=mlp"])
        assert GlobalHydra.instance().hydra is before


@pytest.mark.parametrize("text", [
    "it's", "a\\b", "a\\'b", "a\\", "null", "True", "a,b", "x y", "", "/a/b c", "café", "(a or b) and not c", "1",
])
def test_a_quoted_text_reads_as_itself(text: str) -> None:
    (override,), problems = overrides.parse([f"select={overrides.quote(text)}"])
    assert (override.value, problems) == (text, [])


@pytest.mark.parametrize(("overrides", "strict"), [
    (["suite=quickstart"], False), (["suite=nightly"], True), (["suite=nightly", "strict_dims=false"], False),
    (["model=mlp", "strict_dims=true"], True),
])
def test_strict_dims_of_the_command_line_win_over_the_suite(overrides: list[str], strict: bool) -> None:
    assert {job["strict_dims"] for job in plan(overrides).jobs} == {strict}


def test_settings_of_the_symbol_log_reach_the_export() -> None:
    options = only(plan(["model=mlp", "explain=true", "symbols.extended_debug=[u5,s77]"]))["stages"]["export"]
    assert (options["explain"], options["extended_debug"]) == (True, ["u5", "s77"])
