"""Long IR texts are compressed, and read alike in both forms."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.__main__ import main
from flows.config.document import Limits as RunLimits
from flows.config.plan import Plan
from flows.config.run import Run
from flows.history import retention
from flows.report import levels
from flows.report.dashboard import views
from flows.runs.begin import begin
from lowering import files, pipeline
from lowering.ir import text_files
from lowering.job import Job
from lowering.level import Program
from lowering.record.folder import Limits, prepare
from lowering.record.result import JobResult
from lowering.stage import Note
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.package import Package
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify
from lowering.worker import watch
from tests import toys
from tests.unit.models.scaled_model import MODEL

STAGES = {"export": Export(), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(), "mhlo": ToMHLO(),
          "verify": Verify(platforms=("cpu",)), "package": Package()}
TEXT = "module {\n" + "  func.func private @größer()\n" * 1000 + "}\n"
STEMS = ["01-export", "02-torchscript", "03-torch-raw", "03-torch", "04-stablehlo", "05-mhlo"]


def written(path: Path, text: str = TEXT) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_files_without_blocks_that_claim_more_than_the_memory_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "05-mhlo.mhlo.mlir"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(ValueError, match=r"mlir has 1,099,511,627,776 bytes of text, more than the 1,073,741,824 that are read"):
        text_files.read_text(path)
    path = tmp_path / "manifest.json"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(ValueError, match=r"has 1,099,511,627,776 bytes, more than the 268,435,456 that are read"):
        files.read(path)


@pytest.mark.parametrize("size", [text_files.MOST + 1, 1 << 62])
def test_a_text_that_would_fill_the_memory_is_refused(size: int, tmp_path: Path) -> None:
    path = tmp_path / "05-mhlo.mhlo.mlir.zst"
    # A frame that says its size, and an empty block.
    path.write_bytes(b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00")
    with pytest.raises(ValueError, match=r"mlir\.zst has [\d,]+ bytes of text, more than the 1,073,741,824 that are read"):
        text_files.read_text(path)
    assert "bytes of text" in levels.read_text(path)


def test_a_text_becomes_a_file_that_zstd_reads_from_the_stated_size_on(tmp_path: Path) -> None:
    path = written(tmp_path / "05-mhlo.mhlo.mlir")
    length = path.stat().st_size
    assert text_files.compact(path, None) == text_files.compact(path, length + 1) == path
    made = text_files.compact(path, length)
    assert [file.name for file in tmp_path.iterdir()] == [made.name] == ["05-mhlo.mhlo.mlir.zst"]
    assert made.stat().st_size < length / 10
    assert (text_files.read_text(made), text_files.text_size(made), text_files.text_suffix(made), text_files.text_name(made)) == (
        (TEXT, length, ".mlir", path.name))


def test_what_is_no_text_stays_as_it_is(tmp_path: Path) -> None:
    for name in ("01-export.pt2", "02-torchscript.pt", "06-verify.json", "01-export.trace.log", "program.stablehlo"):
        assert text_files.compact(written(tmp_path / name), 0).name == name


def test_a_damaged_file_is_named_and_the_pages_of_its_run_are_made_all_the_same(tmp_path: Path) -> None:
    made = text_files.compact(written(tmp_path / "05-mhlo.mhlo.mlir"), 0)
    sound = levels.describe_files(tmp_path)[0]
    (tmp_path / levels.LEVELS).unlink()
    content = bytearray(made.read_bytes())
    content[-6] ^= 1
    made.write_bytes(content)
    with pytest.raises(ValueError, match=r"05-mhlo\.mhlo\.mlir\.zst is damaged: .*run the job again"):
        text_files.read_text(made)
    (found,) = levels.describe_files(tmp_path)
    assert found.digest != sound.digest
    made.write_bytes(b"not zstd")
    assert levels.measure_text(made) == 8
    assert "is damaged" in levels.read_text(made)


def test_a_file_that_cannot_be_written_leaves_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target))

    path = written(tmp_path / "05-mhlo.mhlo.mlir")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        text_files.compact(path, 0)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_stored_text_is_placed_in_the_form_that_it_has_and_nothing_else_is_left(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
    pipeline.run(toys.job(), tmp_path / "first", store=store, compress_bytes=0)
    written(tmp_path / "again" / "02-script.ts", "of an earlier attempt")
    written(tmp_path / "again" / ".02-script.ts.zst.1", "of a process that was killed")
    result = pipeline.run(toys.job(), tmp_path / "again", store=store, compress_bytes=None)
    assert [stage.artifact for stage in result.stages] == ["01-export.pt2", "02-script.ts.zst", "03-torch.torch.mlir.zst"]
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == sorted(stage.artifact or "" for stage in result.stages)
    assert (tmp_path / "again/02-script.ts.zst").samefile(next(store.glob("entries/*/*/files/@.ts.zst")))
    next(store.glob("entries/*/*/files/@.ts.zst")).unlink()
    (tmp_path / "third").mkdir()
    assert [stage.cache for stage in pipeline.run(toys.job(), tmp_path / "third", store=store).stages] == ["hit", "miss", "hit"]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of one job: the first compressed all its texts, the second took them from the store, the third wrote them plain."""
    top = tmp_path_factory.mktemp("artifacts")
    for name, least, store in (("one", 0, True), ("two", 0, True), ("three", None, False)):
        folder = top / "runs" / name / "jobs" / "scaled--default"
        prepare(Job(MODEL, STAGES), folder, Limits(compress_bytes=least), top / "store" if store else None)
        assert watch.lower(folder).outcome == "ok"
        files.write(folder.parent.parent / "run.json", {"schema": 1, "run": name, "jobs": [{"id": folder.name}]})
        files.write(folder.parent.parent / "report.json", {})
    (top / "runs/latest").symlink_to("two")
    return top


def job_of(output: Path, run: str) -> Path:
    return output / "runs" / run / "jobs" / "scaled--default"


def test_a_job_keeps_its_levels_compressed_and_a_rerun_takes_all_of_them(output: Path) -> None:
    for run in ("one", "two"):
        found = levels.list_files(job_of(output, run))
        assert [path.name.split(".")[0] for path in found] == STEMS
        assert all(path.suffix == text_files.SUFFIX for path in found)
        result = JobResult.load(job_of(output, run))
        assert result is not None
        assert result.stages[4].artifact == "05-mhlo.mhlo.mlir.zst"
    assert {stage.cache for stage in result.stages} == {"hit"}


def test_the_form_of_a_file_is_no_change_of_its_program(output: Path) -> None:
    packed, plain = levels.describe_files(job_of(output, "two")), levels.describe_files(job_of(output, "three"))
    assert [(level.stem, level.lines, level.size, level.digest) for level in packed] == [
        (level.stem, level.lines, level.size, level.digest) for level in plain]
    assert all(text_files.read_text(one) == other.read_text() for one, other in zip(
        levels.list_files(job_of(output, "two")), levels.list_files(job_of(output, "three")), strict=True))


def test_the_page_of_a_job_holds_the_text(output: Path) -> None:
    folder = job_of(output, "one")
    result = JobResult.load(folder)
    assert result is not None
    shown = json.loads(views.render(folder, result))["levels"]
    assert [zlib.decompress(base64.b64decode(level["packed"])).decode() for level in shown] == (
        list(map(text_files.read_text, levels.list_files(folder))))
    assert [level["size"] for level in shown] == [len(text_files.read_text(path).encode()) for path in levels.list_files(folder)]


def test_show_prints_a_level_in_either_form(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        assert main(["show", "scaled", *arguments, "--output", str(output)]) == 0
        return capsys.readouterr().out

    assert said("mhlo") == said("05-mhlo", "--run", "three") == text_files.read_text(job_of(output, "two") / "05-mhlo.mhlo.mlir.zst")
    assert said("torch") != said("torch-raw")
    assert "// lines of" not in said("mhlo", "--plain")
    assert [line.split()[0] for line in said().splitlines()[1:]] == STEMS
    assert main(["show", "scaled", "mlho", "--output", str(output)]) == 2
    assert "did you mean 'mhlo'?" in capsys.readouterr().err


def test_exec_and_explain_work_on_such_a_job(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", "scaled", "--size", "batch=3", "--output", str(output)]) == 0
    assert main(["explain", "scaled", "batch", "--output", str(output)]) == 0
    assert "verdict: dynamic" in capsys.readouterr().out


def test_repro_keeps_the_form_that_was_asked_for(output: Path) -> None:
    folder = job_of(output, "three")
    done = subprocess.run([folder / "repro.sh", "--until", "torchscript"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in levels.list_files(folder / "repro")} == {"01-export.py", "02-torchscript.ts"}


@dataclass(frozen=True)
class Dies(toys.Verify):
    def apply(self, program: Program, note: Note) -> Program:
        os.kill(os.getpid(), signal.SIGSEGV)
        return program


@pytest.mark.parametrize(("stage", "outcome"), [(toys.Verify(mismatch=True), "mismatch"), (Dies(), "crash")])
def test_the_input_of_a_failing_stage_is_there_whole(tmp_path: Path, stage: toys.Verify, outcome: str) -> None:
    job = Job(toys.model("toy"), {"export": toys.Export(), "script": toys.Script(), "torch": toys.ToTorch(), "verify": stage})
    prepare(job, tmp_path / "job", Limits(compress_bytes=0))
    assert watch.lower(tmp_path / "job").outcome == outcome
    assert [path.name for path in levels.list_files(tmp_path / "job")] == ["02-script.ts.zst", "03-torch.torch.mlir.zst"]
    assert text_files.read_text(tmp_path / "job/03-torch.torch.mlir.zst") == "toy from torchscript\n"


def test_the_limit_of_a_run_reaches_its_jobs(tmp_path: Path) -> None:
    run = begin(Run(Plan("toys", limits=RunLimits(compress_bytes=7), output=tmp_path), (toys.job(),)))
    assert files.read(run.job_folder("toy--default") / "job.json")["compress_bytes"] == 7


def test_old_runs_give_up_their_compressed_ir_too(output: Path) -> None:
    there = retention._find_ir_files(output / "runs/one")
    assert {path.name for path in levels.list_files(job_of(output, "one"))} < {path.name for path in there}
