"""Stores of somebody else: no stored result writes or reads outside of its place, and no stored graph runs code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flows.runs.record import Record
from lowering import files, pipeline
from lowering.errors import Untrusted
from lowering.store import guard
from lowering.store.digests import compute_digest
from lowering.store.entries import Store
from tests import toys


@pytest.mark.parametrize("text", [
    "__import__('os').system('touch {ran}')", "__import__('os').system('touch {ran}').floor(1)",
    "Symbol(__import__('os').system('touch {ran}'))", "(lambda: 0)()", "[c for c in ().__class__.__bases__]",
    "Pow(Integer(9), Integer(999999999))", "9**9**9**9", "x" * 30_000,
])
def test_no_size_expression_of_a_stored_graph_reaches_torch(text: str, tmp_path: Path) -> None:
    saved = json.dumps(
        {"graph_module": {"graph": {"sym_int_values": {"s": {"as_expr": {"expr_str": text.replace("{ran}", str(tmp_path / "ran"))}}}}}})
    with pytest.raises(guard.Unsafe):
        guard.check_graph(saved.encode())
    assert not (tmp_path / "ran").exists()


def test_no_target_of_a_stored_graph_is_anything_but_an_op() -> None:
    for target in ("torch.ops.aten.add.Tensor", "_operator.mul", "math.floor", "torch.sym_max", "torch.ops.higher_order.cond"):
        guard.check_graph(json.dumps({"nodes": [{"target": target}]}).encode())
    for target in ("torch.os.system", "torch.ops.load_library", "_operator.methodcaller", "torch.ops.aten.from_file",
                   "torch.ops.image.read_file", "torch.ops.debugprims.load_tensor.default", "#evil:op", "torch.hub.load",
                   "torch.ops.aten.__class__.x"):
        with pytest.raises(guard.Unsafe, match="is not the name of an op"):
            guard.check_graph(json.dumps({"nodes": [{"target": target}]}).encode())
    with pytest.raises(guard.Unsafe, match="enum"):
        guard.check_graph(json.dumps({"in_spec": '[1, {"__enum__": true, "fqn": "antigravity:X"}]'}).encode())


def stored(store: Path, stage: str = "torch") -> Path:
    """The entry of a stage of the toy job."""
    return next(path.parent for path in store.glob("entries/*/*/entry.json") if files.read(path)["data"]["stage"] == stage)


def forge(entry: Path, name: str, content: bytes = b"evil") -> None:
    """Rename the only file of a stored result, as whoever can write to the store may."""
    data = files.read(entry / "entry.json")
    data["files"] = {name: [compute_digest(content), len(content)]}
    data["sha256"] = compute_digest([entry.name, data["data"], data["files"], data["ir"]])
    files.write(entry / "entry.json", data)
    shutil.rmtree(entry / "files")
    target = entry / "files" / name
    (entry / "files" / "a").mkdir(parents=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


@pytest.mark.parametrize("name", ["../../../../../outside.txt", "a/../../../../../../outside.txt", "job.json"])
def test_a_stored_result_writes_nothing_outside_of_the_job(run: Record, tmp_path: Path, name: str) -> None:
    store = tmp_path / "theirs/store"
    forge(stored(store), name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.txt")}
    (tmp_path / "mine").mkdir()
    result = pipeline.run(toys.job(), tmp_path / "mine", store=store)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*.txt") if "mine" not in path.parts}
    assert after == before and not (tmp_path / "mine/job.json").exists()
    said = [str(problem) for problem in result.problems] + [remark.message for remark in result.warnings if remark.code == "untrusted"]
    assert len(said) == 1 and ("is not the name of a file inside" in said[0] or "belongs to the job" in said[0])


def test_a_linked_result_is_not_followed(run: Record, tmp_path: Path, secret: Path) -> None:
    store = tmp_path / "theirs/store"
    entry = stored(store)
    (file,) = (entry / "files").iterdir()
    file.unlink()
    file.symlink_to(secret)
    with pytest.raises(Untrusted, match="links in records are not followed"):
        Store(store).find(entry.name)
    for key in ("../../../home", "x", ""):
        with pytest.raises(Untrusted, match="is not the key"):
            Store(store).find(key)
    assert secret.read_text() == "PRIVATE KEY"
