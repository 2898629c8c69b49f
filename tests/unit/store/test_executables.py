"""Executables are kept for what they were compiled from, and only what this user wrote is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lowering.numerics.running.xla import Xla
from lowering.store import executables
from lowering.store.sealed import Sealed

PROGRAM = "func.func @main(%x: tensor<?xf32>) -> tensor<?xf32> {{ %0 = stablehlo.{op} %x, %x : tensor<?xf32>  return %0 : tensor<?xf32> }}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHAPELINE_STATE", str(tmp_path))
    return tmp_path / "executables"


def compute(op: str, **options: str) -> list[float]:
    """Run a program on 3 in a new device, which knows no earlier compilation."""
    return Xla("cpu", **options).run(PROGRAM.format(op=op), [torch.tensor([3.0])])[0].tolist()  # type: ignore[no-any-return]


def test_a_program_is_compiled_once_for_all_jobs(folder: Path) -> None:
    with executables.keep():
        assert (compute("add"), compute("multiply")) == ([6], [9])
    add, multiply = (path for path in folder.glob("*/*"))
    first, second = add.read_bytes(), multiply.read_bytes()
    add.write_bytes(second)
    multiply.write_bytes(first)
    assert (compute("add"), compute("multiply")) == ([6], [9])  # outside, and with a run without a store, everything is compiled
    with executables.keep():
        assert (compute("add"), compute("multiply")) == ([9], [6])  # the code that was kept is what runs
        assert (compute("add", effort="quick"), compute("multiply", effort="quick")) == ([6], [9])  # other options, another key
    assert len(list(folder.glob("*/*"))) == 4


@pytest.mark.parametrize("spoil", [
    lambda file: file.chmod(0o666), lambda file: file.write_bytes(file.read_bytes()[:-1]), lambda file: file.write_bytes(b""),
    lambda file: (file.rename(file.with_suffix(".other")), file.symlink_to(file.with_suffix(".other"))),
])  # fmt: skip
def test_what_others_could_have_written_or_is_damaged_is_compiled_again(folder: Path, spoil: Callable[[Path], object]) -> None:
    held = Sealed(folder)
    key = executables.compute_key(b"program", "compiler", {})
    held.put(key, b"code")
    assert held.find(key) == b"code"
    spoil(folder / key[:2] / key)
    assert held.find(key) is None
    held.put(key, b"code")
    assert held.find(key) == b"code"


def test_what_the_compiler_cannot_load_is_compiled_again(folder: Path) -> None:
    with executables.keep():
        assert compute("add") == [6]
        (path,) = folder.glob("*/*")
        Sealed(folder).put(path.name, b"of another release")
        assert compute("add") == [6]
        assert Sealed(folder).find(path.name) != b"of another release"


def test_the_least_recently_used_are_removed(folder: Path) -> None:
    held = Sealed(folder)
    keys = [executables.compute_key(bytes([number]), "compiler", {}) for number in range(3)]
    for age, key in enumerate(keys):
        held.put(key, bytes(100))
        os.utime(folder / key[:2] / key, (1000 + age, 1000 + age))
    assert held.find(keys[0])
    held.trim(300)
    assert [bool(held.find(key)) for key in keys] == [True, False, True]


def test_a_key_is_of_all_that_the_code_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(program: bytes = b"a", compiler: str = "b", **options: object) -> str:
        return executables.compute_key(program, compiler, options)

    found = [key(), key(b"c"), key(compiler="c"), key(level=0), key(level=1)]
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    found.append(key())
    assert len(set(found)) == len(found)
