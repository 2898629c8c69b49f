"""The services of compose.yaml as processes, each by its own command: one nightly through PostgreSQL, Prefect, Dask and S3.

Each service has a loopback address of its own, so that names and ports of the file stay as they are. PostgreSQL and MinIO, whose images are
not Shapeline's, are Debian's PostgreSQL and moto.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chaos import runs

SERVICES: dict[str, Any] = yaml.safe_load((runs.ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
HOSTS = {name: f"127.0.13.{number}" for number, name in enumerate(SERVICES, 1)}
SET = {"PREFECT_AUTH": "shapeline:a-password", "POSTGRES_PASSWORD": "another", "MINIO_PASSWORD": "a-third", "SUITE": "mlp"}
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))[-1:]
PATIENCE = 240.0  # seconds for the start of a service

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not all(importlib.util.find_spec(name) for name in ("moto", "s3fs", "prefect_dask")),
                       reason="needs moto[server], s3fs, prefect-dask"),
    pytest.mark.skipif(not POSTGRES, reason="needs PostgreSQL: apt-get install postgresql"),
]


def fill(text: str) -> str:
    """Replace ${NAME:-default} and ${NAME:?error} as Compose does, and names of services by their addresses."""
    text = re.sub(r"\$\{(\w+):([-?])([^}]*)\}", lambda match: SET.get(match[1], match[3] if match[2] == "-" else ""), text)
    return re.sub(rf"(?<=[/@])({'|'.join(HOSTS)})(?=:\d)", lambda match: HOSTS[match[1]], text)


def make_command(name: str) -> list[str]:
    words = [fill(word).replace("0.0.0.0", HOSTS[name]).replace("/deploy/", f"{runs.ROOT}/deploy/compose/")
             for word in SERVICES[name]["command"]]
    scripts = {"python": [sys.executable], "shapeline": [sys.executable, "-m", "flows"], "prefect": [sys.executable, "-m", "prefect"],
               "dask": [sys.executable, "-m", "dask"]}
    return [*scripts[words[0]], *words[1:]]


def make_environment(name: str, home: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "SHAPELINE_"))}
    declared = {key: fill(value) for key, value in SERVICES[name].get("environment", {}).items()}
    own = {"PREFECT_HOME": str(home / name), "SHAPELINE_STATE": str(home / name / "state"), "SHAPELINE_COPIES": str(home / name / "copies")}
    return {**kept, "PYTHONPATH": str(runs.ROOT), "CUDA_VISIBLE_DEVICES": "", **own, **declared}


@contextmanager
def start(name: str, command: Sequence[str], home: Path, ready: Callable[[], bool] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service for the block, which begins when it is ready."""
    log = home / f"{name}.log"
    with log.open("wb") as output:
        (home / name.split(".")[0]).mkdir(exist_ok=True)
        environment = make_environment(name.split(".")[0], home)
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=output, stderr=output)
    try:
        end = time.monotonic() + PATIENCE
        while ready and not ready():
            assert process.poll() is None and time.monotonic() < end, f"{name}\n{log.read_text()[-4000:]}"
            time.sleep(0.5)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start_postgres(home: Path) -> tuple[list[str], Callable[[], bool]]:
    """Make a database as the image of PostgreSQL does; the command that serves it, and whether it answers. It refuses to run as root."""
    binaries, data = POSTGRES[0].parent, home / "data"
    declared = {key: fill(value) for key, value in SERVICES["postgres"]["environment"].items()}
    (home / "password").write_text(declared["POSTGRES_PASSWORD"])
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if user:
        data.mkdir()
        shutil.chown(data, "postgres")
        for folder in (home, *home.parents[:2]):  # pytest's folders are of mode 0700
            folder.chmod(0o755)
    subprocess.run([*user, binaries / "initdb", "--pgdata", data, "--username", declared["POSTGRES_USER"], "--pwfile", home / "password",
                    "--auth", "scram-sha-256"],
                   check=True, capture_output=True)
    connection = f"postgresql://{declared['POSTGRES_USER']}:{declared['POSTGRES_PASSWORD']}@{HOSTS['postgres']}:5432"

    def answers() -> bool:
        made = subprocess.run([binaries / "psql", f"{connection}/postgres", "-c", f"CREATE DATABASE {declared['POSTGRES_DB']}"],
                              capture_output=True, text=True, check=False)
        return made.returncode == 0 or "already exists" in made.stderr

    return [*user, str(binaries / "postgres"), "-D", str(data), "-h", HOSTS["postgres"], "-k", ""], answers


def read(path: str) -> bytes:
    """An object of the bucket, as the service `pages` asks for it: without a password."""
    with urllib.request.urlopen(f"http://{HOSTS['minio']}:9000/shapeline/nightly/runs/{path}", timeout=30) as answer:
        return bytes(answer.read())


def accepts(host: str, port: int) -> Callable[[], bool]:
    import socket

    def connects() -> bool:
        with suppress(OSError), socket.create_connection((host, port), 2):
            return True
        return False

    return connects


def test_one_nightly_through_all_services(tmp_path: Path) -> None:
    command, answers = start_postgres(tmp_path)
    with ExitStack() as stack:
        stack.enter_context(start("postgres", command, tmp_path, answers))
        stack.enter_context(start("minio", [sys.executable, "-m", "moto.server", "-H", HOSTS["minio"], "-p", "9000"], tmp_path,
                                  lambda: runs.answers(f"http://{HOSTS['minio']}:9000")))
        with start("bucket", make_command("bucket"), tmp_path) as bucket:
            assert bucket.wait(120) == 0, (tmp_path / "bucket.log").read_text()
        api = f"http://{HOSTS['prefect']}:4200/api"
        stack.enter_context(start("prefect", make_command("prefect"), tmp_path, lambda: runs.answers(f"{api}/health")))
        stack.enter_context(start("scheduler", make_command("scheduler"), tmp_path, accepts(HOSTS["scheduler"], 8786)))
        for number in range(SERVICES["worker"]["deploy"]["replicas"]):
            stack.enter_context(start(f"worker.{number}", make_command("worker"), tmp_path))
        night = stack.enter_context(start("nightly", [*make_command("nightly"), "--once"], tmp_path))
        assert night.wait(500) == 0, (tmp_path / "nightly.log").read_text()[-6000:]

        newest = read("latest.txt").decode()
        report = json.loads(read(f"{newest}/report.json"))
        assert report["as_expected"] and [job["outcome"] for job in report["jobs"]] == ["ok"]
        assert b"mhlo.dot" in read(f"{newest}/jobs/mlp--default/05-mhlo.mhlo.mlir")
        assert b"<html" in read(f"{newest}/report.html") and newest.encode() in read("index.html")
        assert list(tmp_path.glob("worker/copies/*/runs/*/jobs/mlp--default/manifest.json")), "it ran on no worker"
        with pytest.raises(urllib.error.HTTPError, match="401"):  # the server asks for the password
            urllib.request.urlopen(urllib.request.Request(f"{api}/flow_runs/filter", b"{}", {"Content-Type": "application/json"}),
                                   timeout=30)
