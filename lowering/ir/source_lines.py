"""User code lines as TorchScript source ranges, and back: how a line travels from FX through TorchScript into MLIR locations."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import torch
from torch._C import _jit_tree_views as tree
from torch.fx import Node

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>[^\n]+)\n(?:\s*(?P<code>[^\n]+))?')
_RANGE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)\n(?P<text>[^\n]*)')
_TRACED = re.compile(r"(?P<file>[^\n(]+)\((?P<line>\d+)\): ")  # the first frame of the stack that torch.jit.trace keeps
_MODULE = "  # in "


@dataclass(frozen=True)
class SourceLine:
    """A line of the user's (or a library's) code, and the path of the module that ran it (`encoder.layer.0`, "" for the root)."""

    file: str
    line: int
    code: str = ""
    module: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        return f"{where} in {self.module}" if self.module else where


def of_fx(node: Node) -> SourceLine | None:
    """The innermost recorded line of an FX node in a file (not in code that tracing made), or None if tracing kept no stack for it."""
    frames = [frame for frame in _FRAME.finditer(node.meta.get("stack_trace") or "") if not frame["file"].startswith("<")]
    if not frames:
        return None
    innermost = frames[-1]
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    module = stack[-1][0] if stack else ""
    return SourceLine(innermost["file"], int(innermost["line"]), innermost["code"] or "", re.sub(r"^L\['self'\]\.?", "", module))


def of_script(node: torch._C.Node) -> SourceLine | None:
    """The line that a TorchScript node's source range names, or None."""
    text = node.sourceRange()
    traced = _TRACED.match(text)
    if traced is not None:
        return SourceLine(traced["file"], int(traced["line"]))
    match = _RANGE.search(text)
    if match is None:
        return None
    code, _, module = match["text"].partition(_MODULE)
    return SourceLine(match["file"], int(match["line"]), code, module)


@functools.lru_cache(maxsize=65536)
def script_prototype(line: SourceLine) -> torch._C.Node:
    """A TorchScript node whose source range is `line`, for `copyMetadata`: Python can copy source ranges but not make them.

    Compiled from a one-statement syntax tree that claims to stand at that file and line.
    """
    text = f"{line.code}{_MODULE}{line.module}" if line.module else line.code or " "
    here = tree.SourceRangeFactory(text + "\n", line.file, line.line, 0).make_range(1, 0, len(text.encode()))  # counted in bytes

    def name(word: str) -> tree.Ident:
        return tree.Ident(here, word)

    call = tree.Apply(tree.Select(tree.Var(name("x")), name("relu")), [], [])
    argument = tree.Param(tree.Var(name("Tensor")), name("x"), False)
    definition = tree.Def(name("f"), tree.Decl(here, [argument], None), [tree.Return(here, call)])
    function = torch._C._jit_script_compile("__torch__.f", definition, lambda _: None, {})
    return _KEEP.setdefault(line, next(node for node in function.graph.nodes() if node.kind() == "aten::relu"))


_KEEP: dict[SourceLine, torch._C.Node] = {}
