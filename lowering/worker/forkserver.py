"""A warm process that loads the compilers once, forks a child for every job, and kills the child's whole process tree at its end.

Linux only. The children belong to the server, so it works the same under a console script, a thread, or a worker of any cluster engine.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lowering import files
from lowering.record.folder import JOB
from lowering.worker import processes
from lowering.worker.stacks import STACKS_SIGNAL

# Modules that every job needs. If one cannot be loaded here, the job that imports it fails with its own error. torch's private module is
# the one that its first export loads, which takes half a second per job. The stages take nearly as long.
WARM = (
    "torch", "torch.export", "torch.export._trace", "torch._inductor.config", "torch._inductor.ir",
    "torch_mlir.ir", "torch_mlir.passmanager", "torch_mlir.dialects.torch",
    "jaxlib.mlir.ir", "jaxlib.mlir.dialects.mhlo", "jax",
    "lowering.fx.archive", "lowering.fx.joint", "lowering.store.narrowing",
    *sorted(f"lowering.stages.{file.stem}" for file in (Path(__file__).parents[1] / "stages").glob("[!_]*.py")),
)  # fmt: skip
# Modules that only models of some factories need, by a word in the factory's name: transformers takes 1.6 seconds.
LATER = {"huggingface": ("transformers.modeling_utils", "transformers.generation.utils", "transformers.models.auto.modeling_auto",
                         "lowering.sources.huggingface")}  # fmt: skip
_tried: set[str] = set()
_seen: set[str] = set()  # classes of transformers that a job has named
KILL, STACKS = b"kill", b"stacks"  # requests of a watcher, on the job's own socket


def serve(control_fd: int, parent: int, warm: Sequence[str] = WARM) -> None:
    """Fork a child for each request until SIGTERM, the other end of `control_fd` closes, or process `parent` is gone. Then exit.

    A request is the JSON {folder, environment} with a socket attached. On that socket the server sends {pid} and obeys KILL and STACKS.
    After the child and all its descendants are dead, it sends {exit} (negative: a signal).
    """
    from lowering.worker import child

    processes.adopt_orphans()
    load(warm)
    run(socket.socket(fileno=control_fd), parent, child.main)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(0)  # without taking every module of the compilers apart


def load(warm: Sequence[str]) -> None:
    """Load the modules `warm` and everything else that all jobs need, for processes that are forked from this one."""
    with _shared():
        for name in warm:
            try:
                importlib.import_module(name)
            except Exception:  # noqa: BLE001 - the job that needs it reports the error with its own place
                traceback.print_exc()
        from lowering.store import memory, provenance

        if "torch.export" in warm:
            from lowering.symbols.tracing import selftest

            selftest.run_self_test()  # once for all jobs, which then also export with warm caches
        provenance.freeze_for_forks(*(name for name in warm if name.startswith("lowering.stages.")))
        memory.save()  # or every job would write it


@contextmanager
def _shared() -> Iterator[None]:
    """Keep what is loaded inside the block for processes that are forked later.

    The garbage collector does not run: it would look at all modules again and again, and the holes that it leaves are filled by each job
    in a copy of the page.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()


def load_later(names: Iterable[str]) -> None:
    """Load further modules, or attributes of modules (`module:name`), into a process that is warm, if it has not tried to yet."""
    missing = [name for name in dict.fromkeys(names) if name not in _tried]
    if not missing:
        return
    with _shared():
        for name in missing:
            _tried.add(name)
            try:
                module, _, attribute = name.partition(":")
                loaded = importlib.import_module(module)
                if attribute:
                    getattr(loaded, attribute)
            except Exception:  # noqa: BLE001 - as above
                traceback.print_exc()
        from lowering.store import memory, provenance

        provenance.freeze_for_forks(*(name for name in missing if name.startswith("lowering.")))
        memory.save()


def list_needed(folder: Path) -> list[str]:
    """Return the modules of LATER that the job of `folder` needs."""
    try:
        factory = str(files.read(folder / JOB)["model"]["factory"]["_target_"])
    except (OSError, ValueError, KeyError, TypeError):  # the job's own process reports it
        return []
    return [name for word, names in LATER.items() if word in factory for name in names]


def list_repeated(folder: Path) -> list[str]:
    """Return the classes of transformers that the job of `folder` names after an earlier job did: most architectures come only once."""
    try:
        factory = files.read(folder / JOB)["model"]["factory"]
        named = [factory[key] for key in ("config", "architecture")] if "huggingface" in factory["_target_"] else []
    except (OSError, ValueError, KeyError, TypeError):
        return []
    classes = [f"transformers:{name}" for name in named if isinstance(name, str)]
    repeated = [name for name in classes if name in _seen]
    _seen.update(classes)
    return repeated


def run(control: socket.socket, parent: int, body: Callable[[Path, Mapping[str, str]], None]) -> None:
    """Serve the requests of `control` (see `serve`) in a process that is warm. body: what a child runs."""
    _Server(control, parent, body).run()


class _Server:
    def __init__(self, control: socket.socket, parent: int, body: Callable[[Path, Mapping[str, str]], None]):
        self.control, self.parent, self.body = control, parent, body
        self.jobs: dict[int, socket.socket] = {}
        self.wake, wake_end = os.pipe()
        for end in (self.wake, wake_end):
            os.set_blocking(end, False)
        self.wake_end = wake_end
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.ending = False
        signal.signal(signal.SIGTERM, self.finish)
        self.selector = selectors.DefaultSelector()
        self.selector.register(control, selectors.EVENT_READ, 0)
        self.selector.register(self.wake, selectors.EVENT_READ, 0)

    def finish(self, *_: object) -> None:
        self.ending = True

    def run(self) -> None:
        while os.getppid() == self.parent and not self.ending:
            for key, _ in self.selector.select(timeout=1.0):
                if key.fileobj is self.control:
                    request, fds, _, _ = socket.recv_fds(self.control, 1 << 17, 1)
                    if not request:
                        return self.end()
                    self.fork(json.loads(request), socket.socket(fileno=fds[0]))
                elif key.data:
                    self.execute_request(key.data)
                else:
                    with suppress(BlockingIOError):
                        os.read(self.wake, 4096)
            self.reap()
        return self.end()

    def fork(self, request: dict[str, Any], job: socket.socket) -> None:
        server = os.getpid()
        folder = Path(request["folder"])
        load_later([*list_needed(folder), *list_repeated(folder)])
        try:
            pid = os.fork()
        except OSError as error:
            _send(job, error=str(error))
            job.close()
            return
        if pid == 0:
            self.become(request, job, server)
        self.jobs[pid] = job
        self.selector.register(job, selectors.EVENT_READ, pid)
        _send(job, pid=pid)

    def become(self, request: dict[str, Any], job: socket.socket, server: int) -> None:
        """Turn the forked process into the job's: a new session, which dies with the server and holds none of its sockets.

        Never returns.
        """
        try:
            os.setsid()
            processes.die_with_parent()
            processes.adopt_orphans()
            if os.getppid() != server:
                os._exit(1)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self.selector.close()
            for end in (self.control, job, *self.jobs.values()):
                end.close()
            os.close(self.wake)
            os.close(self.wake_end)
            for finalizer in list(getattr(weakref.finalize, "_registry", ())):
                finalizer.atexit = False  # of an object of the server
            self.body(Path(request["folder"]), request["environment"])
        except BaseException:  # noqa: BLE001 - must not return into the server's loop
            traceback.print_exc()
        finally:
            os._exit(1)

    def execute_request(self, pid: int) -> None:
        """Execute a request of the watcher of job `pid`. If the watcher is gone, kill the job."""
        asked = b""
        with suppress(OSError):
            asked = self.jobs[pid].recv(64)
        os.kill(pid, STACKS_SIGNAL if asked == STACKS else signal.SIGKILL)  # not reaped yet, so the pid is still the job's
        if asked != STACKS:
            processes.kill_group(pid)
        if not asked:
            self.selector.unregister(self.jobs[pid])

    def reap(self) -> None:
        """Reap dead children. Live jobs adopt their own orphans, so a child that is not a job was left by a dead one: kill it."""
        ended = self.collect()
        patience = time.monotonic() + 2.0
        while (strangers := processes.list_own_children() - self.jobs.keys()) and time.monotonic() < patience:
            for stranger in strangers:
                with suppress(ProcessLookupError):
                    os.kill(stranger, signal.SIGKILL)
            time.sleep(0.002)
            ended |= self.collect()
        for pid, code in ended.items():
            job = self.jobs.pop(pid)
            with suppress(KeyError):
                self.selector.unregister(job)
            _send(job, exit=code)
            job.close()

    def collect(self) -> dict[int, int]:
        """Return the exit codes of the jobs that have just ended.

        Their process groups are killed before the pid is reaped and can be reused.
        """
        ended = {}
        with suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if found.si_pid in self.jobs:
                    processes.kill_group(found.si_pid)
                _, status = os.waitpid(found.si_pid, 0)
                if found.si_pid in self.jobs:
                    ended[found.si_pid] = os.waitstatus_to_exitcode(status)
        return ended

    def end(self) -> None:
        """Kill every job and all its descendants."""
        for pid in self.jobs:
            os.kill(pid, signal.SIGKILL)
            processes.kill_group(pid)
        while processes.list_own_children():
            for pid in processes.list_own_children():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(-1, 0)


def _send(job: socket.socket, **message: object) -> None:
    with suppress(OSError):  # the watcher may be gone
        job.send(json.dumps(message).encode())
