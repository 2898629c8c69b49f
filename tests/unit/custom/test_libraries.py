"""Op libraries: built once, loaded, and what is wrong with them said with the compiler's or the loader's words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lowering.custom import compiler, libraries
from lowering.errors import LoadError
from lowering.model import Input, Library, Model, Symbol
from lowering.model_checks import find_problems
from lowering.store import provenance

SOURCE = """
#include <ATen/core/Tensor.h>
#include <torch/library.h>
#include "factor.h"
static at::Tensor scaled(const at::Tensor& x) { return x.mul(FACTOR); }
TORCH_LIBRARY(NAMESPACE, m) { m.def("scaled(Tensor x) -> Tensor", scaled); }
"""


def model(*listed: str | Library) -> Model:
    inputs = {"x": Input("float32", ("rows", 4))}
    return Model("scaled", {"_target_": "tests.unit.models.custom_models.Every"}, inputs, {"rows": Symbol(1, 8)}, libraries=listed)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a source and its header, and an empty cache beside them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "ops.cpp").write_text(SOURCE)
    (tmp_path / "factor.h").write_text("#define FACTOR 3\n")
    return tmp_path


def test_sources_are_built_once_and_their_ops_run(folder: Path) -> None:
    library = Library((str(folder / "ops.cpp"),), ("-DNAMESPACE=built_once",))
    libraries.load(model(library))
    assert torch.ops.built_once.scaled(torch.ones(2)).tolist() == [3, 3]
    assert libraries.describe_owner("built_once::scaled") == f"library '{folder / 'ops.cpp'}'"
    built = compiler.build("ops", [folder / "ops.cpp"], library.flags)
    before = built.stat().st_mtime_ns
    libraries.load(model(library))
    assert compiler.build("ops", [folder / "ops.cpp"], library.flags).stat().st_mtime_ns == before


def test_a_changed_header_or_flag_is_another_library(folder: Path) -> None:
    sources = [folder / "ops.cpp"]
    first = compiler.compute_digest("c++", sources, ())
    assert compiler.compute_digest("c++", sources, ()) == first
    assert compiler.compute_digest("c++", sources, ("-O0",)) != first
    named = provenance.digest_named_files({"libraries": [{"sources": [str(folder / "ops.cpp")]}]})
    (folder / "factor.h").write_text("#define FACTOR 4\n")
    assert compiler.compute_digest("c++", sources, ()) != first
    assert [Path(file).name for file in named] == ["ops.cpp", "factor.h"], "what the store's keys are made of"


def test_a_library_that_does_not_build_shows_the_compilers_output(folder: Path) -> None:
    (folder / "ops.cpp").write_text('#include "factor.h"\nint factor() { return FACTOR * NOBODY; }\n')
    with pytest.raises(LoadError) as caught:
        libraries.load(model(Library((str(folder / "ops.cpp"),), ("-DNAMESPACE=broken",))))
    (problem,) = caught.value.problems
    assert problem.place == f"models.scaled.libraries[0]: library '{folder / 'ops.cpp'}'"
    assert "does not build" in problem.cause and "NOBODY" in problem.cause and "ops.cpp:2" in problem.cause
    assert "-DNAMESPACE=broken" in caught.value.log and "NOBODY" in caught.value.log


def test_every_library_that_does_not_load_is_named(folder: Path) -> None:
    (folder / "text.so").write_text("no library\n")
    with pytest.raises(LoadError) as caught:
        libraries.load(model(str(folder / "text.so"), str(folder / "gone.so"), Library(module="tests.unit.no_such_ops")))
    text = [str(problem) for problem in caught.value.problems]
    assert len(text) == 3
    assert "libraries[0]" in text[0] and "does not load" in text[0] and ("file too short" in text[0] or "invalid ELF" in text[0])
    assert "libraries[1]" in text[1] and "gone.so" in text[1] and "file does not exist" in text[1]
    assert "libraries[2]" in text[2] and "No module named 'tests.unit.no_such_ops'" in text[2]


def test_problems_of_a_models_libraries_are_found_before_the_run(folder: Path) -> None:
    both = Library((str(folder / "ops.cpp"),), (), "tests.unit.models.custom_models")
    found = find_problems(model(both, Library(), "gone.so", Library((str(folder / "other.cpp"),))))
    assert [problem.place for problem in found] == ["model.libraries[0]", "model.libraries[1]", "model.libraries[2]",
                                                    "model.libraries[3].sources[0]"]
    said = ["both sources and a module", "neither sources nor a module", "gone.so", "other.cpp"]
    assert [words for words, problem in zip(said, found, strict=True) if words not in problem.cause] == []
