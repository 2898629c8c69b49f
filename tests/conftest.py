"""What all tests share: golden files, the texts of tests/golden that the code must still give."""

from __future__ import annotations

import gc
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Before XLA is loaded: programs of tests run a few times each. Its default optimization of machine code doubles the time of compiling them,
# and its fusion emitters multiply that of loops, sorts and halves. The commands of tests/e2e are compiled as a user's are
# (tests/prefect_server.py).
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1 "
                                   "--xla_cpu_use_fusion_emitters=false")
# Before torch is loaded: threads that wait for each other on small tensors take a fifth more CPU.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Before the workers and commands of the tests are started, whose processes load the same sources: one compiles them for all.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

GOLDEN = Path(__file__).with_name("golden")
# Modules whose jobs are forked from a process that has loaded the compilers: in one worker, they share it.
FORKED = ("tests/e2e/test_quickstart_", "tests/e2e/test_probe.py", "tests/unit/ir/test_text_files.py", "tests/unit/store/test_entries.py")
LONG = ("tests/chaos/", "tests/e2e/", "tests/ops/", "tests/unit/worker/", "tests/unit/stages/")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a module in one worker, and so those of forked jobs and of the browser: fixtures are built once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "forked" if file.startswith(FORKED) else "browser" if file.startswith("tests/browser/") else file

    return ByModule(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that start processes and take longest, so that the workers end together."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def pytest_collection_finish() -> None:
    """Collect garbage rarely, and never that of imported libraries: it would take a tenth of the CPU time of the tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden from the results of this code: then read the diff")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed the generators before the fixtures of each test, so that a test draws the same data whichever tests ran before it."""
    random.seed(0)
    if "torch" in sys.modules:  # tests of configurations do not pay for its import
        sys.modules["torch"].manual_seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)


@pytest.fixture(scope="session", autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A state folder of the tests' own, so that they neither use nor make the user's key; and no server that stays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CI", "true")
        patch.setenv("SHAPELINE_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="module")
def light_server() -> Iterator[None]:
    """A fork server for toy jobs, which loads torch and none of the compilers: these take seconds."""
    from lowering.worker import client

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "WARM", ("torch",))
        patch.setattr(client, "_servers", {})
        yield
        for server in client._servers.values():
            server.close()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with the file of a name in tests/golden, or writes the file."""

    def compare(name: str, text: str) -> None:
        file = GOLDEN / name
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert file.is_file(), f"there is no tests/golden/{name}: pytest --update-golden writes it"
        assert text == file.read_text(encoding="utf-8"), f"not as tests/golden/{name}: if it should be so, pytest --update-golden writes it"

    return compare
