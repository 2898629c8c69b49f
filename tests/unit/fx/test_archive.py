"""`.pt2` files are those of torch.export.save, record by record, and hold the graph that the store keeps."""

from __future__ import annotations

import gc
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from lowering.fx import archive
from lowering.level import Level, Program
from lowering.store import programs


class Shares(torch.nn.Module):
    """Tied weights, views of one storage, a transposed and an empty buffer, one that is not persistent, and constants."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.down.weight = self.up.weight
        base = torch.randn(10, 4)
        for name, value in {"low": base[:4], "high": base[2:8], "turned": torch.randn(4, 6).t(), "empty": torch.zeros(0, 4)}.items():
            self.register_buffer(name, value)
        self.register_buffer("ones", torch.ones(3, dtype=torch.int64), persistent=False)
        self.plain = torch.randn(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        held = [self.low, self.high, self.turned, self.empty, self.ones, self.plain, torch.tensor([1.0, 2.0])]
        return self.down(self.up(x)) + sum(value.sum() for value in held)


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    return torch.export.export(Shares(), (torch.randn(3, 4),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))


def records(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name.partition("/")[2]: file.read(name) for name in file.namelist()}


def test_every_record_is_torchs(program: torch.export.ExportedProgram, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of storages that no weight covers
        torch.export.save(program, tmp_path / "torch.pt2")
        archive.save(program, tmp_path / "own.pt2")
    assert records(tmp_path / "own.pt2") == records(tmp_path / "torch.pt2")
    given = torch.randn(5, 4)
    assert torch.equal(torch.export.load(tmp_path / "own.pt2").module()(given), program.module()(given))


def test_the_store_keeps_the_same_bytes_whether_an_archive_was_written_or_not(program: torch.export.ExportedProgram,
                                                                              tmp_path: Path) -> None:
    form = Program(Level.EXPORTED, program)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.save(program, tmp_path / "01-export.pt2")
    assert programs.dump(form, [tmp_path / "01-export.py", tmp_path / "01-export.pt2"]) == programs.dump(form) is not None


def test_no_weight_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(value: torch.Tensor) -> bytes:
        raise AssertionError(f"copies {value.shape}")

    exported = torch.export.export(torch.nn.Linear(8, 8), (torch.randn(2, 8),))
    monkeypatch.setattr("torch.export.pt2_archive._package._get_raw_tensor_bytes", copied)
    archive.save(exported, tmp_path / "own.pt2")
    assert gc.isenabled()


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "01-export.pt2"
    path.write_text("no zip")
    with pytest.raises(ValueError, match=r"01-export\.pt2 is not an archive of an exported program"):
        archive.read_graph(path)
