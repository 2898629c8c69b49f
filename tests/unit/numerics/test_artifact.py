"""Artifacts: weights once by digest, and a program that a fresh process runs without the model's Python code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jaxlib.mlir.dialects import stablehlo

from lowering import files
from lowering.eager import inputs
from lowering.eager.module import instantiate
from lowering.errors import InfraError, Refused, Unsupported
from lowering.ir import mlir
from lowering.level import Level
from lowering.numerics.coverage import recorded_points
from lowering.numerics.delivery import artifact, packaging
from lowering.record.folder import SIGNATURE
from lowering.stage import Silent
from lowering.stages.package import Package
from lowering.stages.verify import Verify
from lowering.store import weights
from tests.unit.models.scaled_model import MODEL, program

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job's folder with an artifact and verified points."""
    top = tmp_path_factory.mktemp("artifacts")
    job = top / "runs" / "1" / "jobs" / "scaled--default"
    job.mkdir(parents=True)
    stage = Verify(platforms=("cpu",))
    verified = stage.apply(program(), Silent())
    stage.save(verified, job / "06-verify")
    package = Package()
    package.save(package.apply(verified, Silent()), job / "07-package")
    return job


def test_an_artifact_runs_at_any_size_in_a_process_without_the_models_code(folder: Path, tmp_path: Path) -> None:
    script = f"""
import json, sys
from pathlib import Path
from lowering.numerics.delivery.artifact import execute
done = execute(Path({str(folder)!r}), {{"batch": 9}})
assert not [name for name in sys.modules if name.startswith("tests") or name.startswith("torch_mlir")]
print(json.dumps({{name: [str(value.dtype), value.double().sum().item()] for name, value in done.results.items()}}))
"""
    environment = {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    given = inputs.make(MODEL, {"batch": 9})
    with torch.no_grad():
        want = instantiate(MODEL)(**given)
    assert json.loads(ended.stdout) == {"logits": ["torch.float32", pytest.approx(want["logits"].sum().item(), rel=1e-5)],
                                        "count": ["torch.int64", want["count"].sum().item()]}  # fmt: skip


def test_an_artifact_taken_into_a_folder_of_another_depth_finds_its_weights(folder: Path) -> None:
    deeper = folder / "repro"
    deeper.mkdir()
    for name in (SIGNATURE, packaging.PROGRAM):
        shutil.copy(folder / name, deeper / name)
    assert artifact.execute(deeper, {"batch": 3}).results["logits"].shape == (3, 8)


def test_recorded_eager_results_are_compared(folder: Path) -> None:
    done = artifact.execute(folder, {"batch": 13}, compare=True)
    assert done.compared is not None
    assert set(done.compared) == {"logits", "count"}
    assert all(found.agrees for found in done.compared.values())


def test_sizes_that_were_not_recorded_cannot_be_compared(folder: Path) -> None:
    with pytest.raises(InfraError, match=r"no eager result is recorded at these sizes .recorded: batch=1; batch=64; batch=13"):
        artifact.execute(folder, {"batch": 14}, compare=True)


def test_a_difference_is_held_to_what_verify_explained_by_rounding(folder: Path) -> None:
    packaged = artifact.Artifact.load(folder)
    _, want, record = recorded_points.find(folder, {"batch": 13})
    got = {**want, "logits": want["logits"] + 0.5}

    def judge(**known: object) -> str | None:
        outputs = {"logits": {"wrong": None, "detail": "3 elements differ", "max_abs": 0.3, "held_to": "", **known}}
        return packaged.compare(got, want, {**record, "points": [{"levels": {"mhlo": {"outputs": outputs}}}]})["logits"].wrong

    assert judge() is None
    assert judge(detail="") == judge(max_abs=0.2) == judge(wrong="values") == "values"
    got["logits"] = want["logits"] + 1.5e-5  # of 1e-5
    assert judge(detail="") is None


def test_a_recorded_result_that_differs_is_detected(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "job"
    shutil.copytree(folder, copy)
    shutil.copytree(folder.parents[3] / "store" / "weights", tmp_path / "store")
    described = files.read(copy / SIGNATURE)
    described["weights"]["store"] = "../store"
    files.write(copy / SIGNATURE, described)
    kept = load_file(copy / "06-verify.safetensors")
    kept["0/eager/count"] += 1
    save_file(kept, copy / "06-verify.safetensors")
    found = artifact.execute(copy, {"batch": 1}, compare=True, trusted=True).compared
    assert found is not None
    assert (found["logits"].wrong, found["count"].wrong) == (None, "values")


@pytest.mark.parametrize(("sizes", "words"), [({"batch": 65}, "is outside"), ({"batch": 0}, "is outside"), ({"bach": 3}, "symbols: batch")])
def test_wrong_sizes_are_refused(folder: Path, sizes: dict[str, int], words: str) -> None:
    with pytest.raises(Refused, match=words):
        artifact.execute(folder, sizes)


def test_sizes_that_do_not_fit_into_the_memory_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder.parents[3], tmp_path / "copy")) / folder.relative_to(folder.parents[3])
    data = files.read(copy / SIGNATURE)
    (name,) = [argument["name"] for argument in data["signature"]["arguments"] if argument["kind"] == "input"][:1]
    data["model"]["inputs"][name]["shape"] = ["batch", 1 << 50]
    files.write(copy / SIGNATURE, data)
    with pytest.raises(Refused, match="do not fit into the memory"):
        artifact.execute(copy, {"batch": 3})


def test_signature_json_has_the_arguments_and_results(folder: Path) -> None:
    described = files.read(folder / SIGNATURE)
    assert [(argument["kind"], argument["name"], argument["dims"]) for argument in described["signature"]["arguments"]] == [
        ("parameter", "weight", [16, 8]), ("input", "x", ["batch", 16]), ("input", "ids", ["batch"]),
    ]  # fmt: skip
    assert described["outputs"] == {"logits": "logits", "count": "count"}
    assert described["signature"]["symbols"]["batch"] == {"min": 1, "max": 64, "multiple_of": 1}
    assert described["schema"] == "shapeline/signature/1"


def test_a_missing_or_changed_program_is_reported(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InfraError, match=r"signature.json: is missing"):
        artifact.execute(tmp_path, {})
    copy = tmp_path / "job"
    shutil.copytree(folder, copy)
    (copy / packaging.PROGRAM).write_bytes(b"other")
    with pytest.raises(InfraError, match=r"is not the program that signature.json describes"):
        artifact.execute(copy, {})


def test_weights_are_stored_once_whatever_the_order(tmp_path: Path) -> None:
    one, two = torch.randn(8, 8), torch.arange(5)
    key = weights.write({"a.weight": one, "b.steps": two}, tmp_path)
    file = weights.locate(tmp_path, key).stat().st_ino
    assert weights.write({"b.steps": two.clone(), "a.weight": one.clone()}, tmp_path) == key
    assert weights.locate(tmp_path, key).stat().st_ino == file
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{key}.safetensors"]
    back = weights.read(tmp_path, key)
    assert torch.equal(back["a.weight"], one)
    assert torch.equal(back["b.steps"], two)
    weights.check(tmp_path, key)


def test_bytes_are_read_again_only_when_they_were_written(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"a": torch.zeros(8), "b": torch.ones(8)}
    read, real = [], weights._view_bytes
    monkeypatch.setattr(weights, "_view_bytes", lambda tensor: read.append(tensor) or real(tensor))
    first = weights.compute_digest(held)
    assert weights.compute_digest(dict(reversed(held.items()))) == first
    assert len(read) == 2
    held["a"][3] = 1
    assert weights.compute_digest(held) != first
    assert len(read) == 3
    with torch.inference_mode():
        held = {"a": torch.zeros(8)}
        first = weights.compute_digest(held)
        held["a"][3] = 1
    assert weights.compute_digest(held) != first


def test_another_value_name_dtype_or_shape_is_another_digest() -> None:
    one = torch.zeros(4)
    others = [{"w": torch.tensor([0.0, 0, 0, 1])}, {"v": one}, {"w": one.int()}, {"w": one.reshape(2, 2)}, {"w": one, "v": one}]
    assert len({weights.compute_digest(found) for found in ({"w": one}, *others)}) == 6


def test_tied_weights_are_stored_once_and_views_are_distinguished(tmp_path: Path) -> None:
    table = torch.randn(1000, 64)
    tied = {"embed": table, "head": table, "turned": table.t(), "first": table[:10]}
    key = weights.write(tied, tmp_path)
    back = weights.read(tmp_path, key)
    assert all(torch.equal(back[name], value) for name, value in tied.items())
    assert weights.locate(tmp_path, key).stat().st_size < 2.2 * table.nbytes
    assert back["head"].data_ptr() == back["embed"].data_ptr()
    assert weights.compute_digest(back) == key


def test_every_dtype_and_an_empty_tensor_come_back_bit_for_bit(tmp_path: Path) -> None:
    kinds = [torch.bfloat16, torch.float16, torch.float8_e5m2, torch.float8_e4m3fn, torch.bool, torch.uint8, torch.int64, torch.complex64]
    held = {str(kind): torch.tensor([0.0, 1.0, 0.5]).to(kind) for kind in kinds} | {"empty": torch.empty(0, 3), "scalar": torch.tensor(2.5)}
    back = weights.read(tmp_path, weights.write(held, tmp_path))
    assert {name: value.dtype for name, value in back.items()} == {name: value.dtype for name, value in held.items()}
    assert all(value.tolist() == held[name].tolist() if value.dtype.itemsize > 1 else True for name, value in back.items())
    assert back["empty"].shape == (0, 3)


def test_a_broken_file_is_found(tmp_path: Path) -> None:
    key = weights.write({"w": torch.ones(64)}, tmp_path)
    path = weights.locate(tmp_path, key)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InfraError, match="content does not match its name"):
        weights.check(tmp_path, key)
    path.write_bytes(content[:-8])
    with pytest.raises(InfraError, match="cannot be read"):
        weights.read(tmp_path, key)


def test_fake_weights_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(Unsupported) as caught:
        weights.write({"a": torch.empty(2, device="meta"), "b": torch.ones(2), "c": torch.empty(3, device="meta")}, tmp_path)
    assert [problem.place for problem in caught.value.problems] == ["weight 'a'", "weight 'c'"]
    assert not list(tmp_path.iterdir())


def test_the_jobs_of_all_runs_share_one_store(folder: Path) -> None:
    stored = [path for path in (folder.parents[3] / "store" / "weights").rglob("*") if path.is_file()]
    other = folder.parents[2] / "2" / "jobs" / "scaled--default"
    other.mkdir(parents=True)
    Package().save(program(), other / "07-package")
    assert [path for path in (folder.parents[3] / "store" / "weights").rglob("*") if path.is_file()] == stored
    assert len(stored) == 1
    assert artifact.execute(other, {"batch": 3}).results["logits"].shape == (3, 8)


def test_an_artifact_without_weights_names_the_missing_weights(tmp_path: Path) -> None:
    Package(keep_weights=False).save(program(), tmp_path / "07-package")
    assert not (tmp_path / "weights").exists()
    with pytest.raises(InfraError, match="was written without weights"):
        artifact.execute(tmp_path, {})


def test_only_mhlo_of_a_model_makes_an_artifact(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MHLO"):
        packaging.save(program().at(Level.TORCHSCRIPT), tmp_path, tmp_path)  # type: ignore[arg-type]


def test_the_entry_function_has_the_name_that_is_asked_for(tmp_path: Path) -> None:
    package = Package(entry="forward")
    package.save(package.apply(program(), Silent()), tmp_path / "07-package")
    context = mlir.create_hlo_context()
    with context:
        module = stablehlo.deserialize_portable_artifact(context, (tmp_path / packaging.PROGRAM).read_bytes())
    assert mlir.find_entry(module).attributes["sym_name"].value == files.read(tmp_path / SIGNATURE)["program"]["entry"] == "forward"
    assert artifact.execute(tmp_path, {"batch": 3}).results["logits"].shape[0] == 3
    assert [problem.place for problem in Package(entry="two words").requires(program())] == ["stages.package.entry"]


@pytest.mark.parametrize(("name", "keys", "value", "says"), [
    (SIGNATURE, ("signature", "arguments"), ["x"], r"signature\.json signature: arguments\[0\]: 'x' is not a mapping"),
    (SIGNATURE, ("model", "symbols", "batch", "multiple_of"), "4", r"signature\.json: cannot be read: TypeError"),
    (SIGNATURE, ("model", "inputs"), [], r"signature\.json: cannot be read"),
    ("06-verify.json", ("points", 0, "levels"), 7, r"the record of verify cannot be read"),
    ("06-verify.json", ("kept", 0), None, r"cannot be read"),
])  # fmt: skip
def test_records_of_others_that_are_not_as_they_were_written_are_refused(
        folder: Path, tmp_path: Path, name: str, keys: tuple[str | int, ...], value: object, says: str) -> None:
    job = Path(shutil.copytree(folder.parents[3], tmp_path / "copy")) / folder.relative_to(folder.parents[3])
    data = files.read(job / name)
    sizes = files.read(job / "06-verify.json")["kept"][0]["sizes"]
    *above, last = keys
    parent = data
    for key in above:
        parent = parent[key]
    parent[last] = value
    (job / name).unlink()
    files.write(job / name, data)
    with pytest.raises(InfraError, match=says):
        artifact.execute(job, sizes, compare=True)
