"""The README's example and the tutorial, word for word, where pip installed the wheel and what it needs, without the repository."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import wheels
from tests.wheels import ROOT, run

pytestmark = pytest.mark.docs
INSTALLATION = 3600.0  # seconds: gigabytes are downloaded and unpacked


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a new environment with the wheel and the locked versions of its dependencies."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    index = ["--extra-index-url", os.environ["TORCH_INDEX"]] if os.environ.get("TORCH_INDEX") else []
    run(folder / "bin/python", "-m", "pip", "install", "--quiet", *index, "--constraint", ROOT / "requirements.lock", wheels.build(folder),
        cwd=folder, seconds=INSTALLATION)  # fmt: skip
    return folder / "bin"


def read_blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """The code blocks of a text: (language, the file that the sentence before says to save it as, content)."""
    for match in re.finditer(r"(?:Save this as `([^`]+)`:?\n\n)?^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield match[2], match[1] or "", match[3]


def test_nothing_of_the_repository_is_there(environment: Path, tmp_path: Path) -> None:
    where = run(environment / "python", "-c", "import flows, lowering, torch; print(flows.__file__, lowering.__file__, torch.__file__)",
                cwd=tmp_path)
    assert all(Path(file).is_relative_to(environment.parent) for file in where.split())


def test_the_example_of_the_readme_works_word_for_word(environment: Path, tmp_path: Path) -> None:
    (example,) = [content for language, _, content in read_blocks((ROOT / "README.md").read_text(encoding="utf-8")) if language == "python"]
    printed = run(environment / "python", "-c", example, cwd=tmp_path)
    assert "mhlo.dot" in printed and "dims are dynamic" in printed and printed.count("tensor([") == 1
    assert "float32[3, 8]" in run(environment / "shapeline", "exec", "out", "--size", "batch=3", cwd=tmp_path)


def test_the_tutorial_works_word_for_word(environment: Path, tmp_path: Path) -> None:
    path = f"{environment}{os.pathsep}{os.environ['PATH']}"
    state = {name: str(tmp_path / name.lower()) for name in ("PREFECT_HOME", "SHAPELINE_STATE")}
    ran = 0
    for language, name, content in read_blocks((ROOT / "docs/tutorial.md").read_text(encoding="utf-8")):
        if name:
            (tmp_path / name).write_text(content, encoding="utf-8")
        elif language == "yaml":
            written = (tmp_path / "tower.yaml").read_text(encoding="utf-8")
            assert content.split() == written.split()  # as the text says that it is
            (tmp_path / "tower.yaml").write_text(written.replace("max: 8", "max: 1024"), encoding="utf-8")
        elif language == "sh":
            for line in content.splitlines():
                run("bash", "-c", line, cwd=tmp_path, PATH=path, CI="true", **state)
                ran += 1
    assert ran == 13
    assert (tmp_path / "artifacts/runs/latest/report.html").is_file()
