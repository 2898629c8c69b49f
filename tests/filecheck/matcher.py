"""LLVM's FileCheck, by the package `filecheck`: the `# CHECK:` lines of a case, in order, against a printed IR."""

from __future__ import annotations

import contextlib
import io

from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import Options
from filecheck.parser import Parser, pattern_for_opts


def check(text: str, case: str) -> None:
    """Raise AssertionError with filecheck's message, and the text, if `text` does not match the directives of `case`."""
    options = Options("case")
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = Matcher(options, FInput("text", text), Parser(options, io.StringIO(case), *pattern_for_opts(options))).run()
    assert code == 0, f"{said.getvalue()}\n{text}"
