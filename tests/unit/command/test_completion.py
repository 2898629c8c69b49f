"""Completion in the shells, and the examples of `--help`."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from flows.command import completion, verbs
from flows.command.examples import EXAMPLES
from flows.config.plan import plan
from lowering.errors import ConfigError

OWN = [verb for verb in verbs.VERBS if verb != "multirun"]  # its help is Hydra's
# The stub answers for the command: names come from it only where they are asked for.
ASK = """{script}
shapeline() {{ [[ "$*" == "list --suites" ]] && echo quickstart nightly; [[ "$*" == "list --models" ]] && echo bert_full bert; }}
compopt() {{ :; }}
COMP_WORDS=({words}) COMP_CWORD={last}
_shapeline
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def complete(folder: Path, *words: str) -> list[str]:
    """What bash offers for the last word of a command line, in a folder."""
    script = ASK.format(script=completion.make_script("bash"), words=" ".join(map(shlex.quote, words)), last=len(words) - 1)
    done = subprocess.run(["bash", "--norc", "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(("words", "offered"), [
    (["shapeline", "rer"], ["rerun-failed"]),
    (["shapeline", "run", "--dry"], ["--dry-run"]),
    (["shapeline", "run", "sui"], ["suite="]),
    (["shapeline", "run", "suite", "=", "quick"], ["quickstart"]),  # bash parts a word at `=`
    (["shapeline", "run", "suite", "="], ["quickstart", "nightly"]),
    (["shapeline", "run", "model=bert_"], ["model=bert_full"]),  # zsh does not
    (["shapeline", "run", "until=to"], ["until=torchscript", "until=torch"]),
    (["shapeline", "cache", "w"], ["why"]),
    (["shapeline", "schema", "sym"], ["symbols"]),
    (["shapeline", "show", "mlp"], ["mlp--default"]),
    (["shapeline", "run", "model", "=", "./mi"], ["./mine.yaml"]),
])  # fmt: skip
def test_a_shell_offers_what_may_follow(words: list[str], offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "artifacts/runs/latest/jobs/mlp--default").mkdir(parents=True)
    (tmp_path / "mine.yaml").touch()
    assert complete(tmp_path, *words) == offered


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_takes_the_script(tmp_path: Path) -> None:
    script = f"autoload -U compinit && compinit -u\n{completion.make_script('zsh')}echo ${{_comps[shapeline]}}"
    done = subprocess.run(["zsh", "-f", "-c", script], cwd=tmp_path, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
                          capture_output=True, text=True, check=True)
    assert "_shapeline" in done.stdout and done.stderr == ""


@pytest.mark.parametrize("verb", OWN)
def test_the_help_of_a_command_has_examples_with_its_own_options(verb: str) -> None:
    text = verbs.read_help(verb)
    known = set(completion.read_words(text)) | {"--max-bytes", "--trust"}  # of words of `cache`
    assert EXAMPLES[verb] and "\nexamples:\n" in text
    for command, _ in EXAMPLES[verb]:
        first, *words = shlex.split(command)
        assert first == verb and f"shapeline {command}" in text
        assert {word for word in words if re.fullmatch(r"--?[a-z-]+", word)} <= known, command


def test_the_overrides_of_the_examples_are_valid() -> None:
    found = [shlex.split(command)[1:] for verb in ("run", "list", "nightly") for command, _ in EXAMPLES[verb]]
    checked = 0
    for words in found:
        overrides = [word for word in words if re.match(r"[a-z.]+=", word)]
        if overrides and "mine" not in " ".join(words):
            plan(overrides)
            checked += 1
    assert checked >= 4
    with pytest.raises(ConfigError):
        plan(["model=llama", "until=nowhere"])
