"""Imports are found wherever Python allows a statement."""

from __future__ import annotations

from lowering.store import imports

CODE = b"""
import a.b as c, d
from . import e
from .f import g
from ..h import i
try:
    import j
except ImportError:
    import k
else:
    import l
finally:
    import m
class N:
    import n
    async def o(self):
        async with p:
            import p
        async for q in r:
            import q
        else:
            import r
def s(t=lambda: 1):
    if t:
        import t
    elif s:
        import u
    while t:
        from v import *
match w:
    case 1:
        import w
try:
    pass
except* OSError:
    with y: import x
"""


def test_imports_of_every_statement_are_found() -> None:
    names = {"a.b", "d", "own.package.e", "own.package.f.g", "own.h.i", "v.*", *"jklmnpqrtuwx"}
    assert set(imports.parse(CODE, "own.package")) == names


def test_what_is_no_python_imports_nothing() -> None:
    assert imports.parse(b"import a\n}", "own") == []
