"""User code lines as TorchScript source ranges: they carry lines from FX through TorchScript to MLIR locations."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch._C import _jit_tree_views as tree
from torch.fx import Node

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>[^\n]+)\n(?:\s*(?P<code>[^\n]+))?')
_RANGE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)\n(?P<text>[^\n]*)')
_TRACED = re.compile(r"(?P<file>[^\n(]+)\((?P<line>\d+)\): ")  # the first frame of the stack that torch.jit.trace records
_MODULE = "  # in "
_TORCH = f"{Path(torch.__file__).parent}/"


@dataclass(frozen=True)
class SourceLine:
    """A line of user or library code, and the path of the module that ran it (`encoder.layer.0`, "" for the root)."""

    file: str
    line: int
    code: str = ""
    module: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        return f"{where} in {self.module}" if self.module else where


def find_fx_line(node: Node) -> SourceLine | None:
    """Return the innermost recorded line of an FX node that is in a file (not generated code), or None if tracing recorded no stack."""
    frames = _list_frames(node)
    return _build_line(node, frames[-1]) if frames else None


def find_model_line(node: Node) -> SourceLine | None:
    """Return the innermost recorded line of an FX node outside of torch, for messages; one of torch's only if there is no other."""
    frames = _list_frames(node)
    outside = [frame for frame in frames if not frame["file"].startswith(_TORCH)] or frames
    return _build_line(node, outside[-1]) if outside else None


def _list_frames(node: Node) -> list[re.Match[str]]:
    return [frame for frame in _FRAME.finditer(node.meta.get("stack_trace") or "") if not frame["file"].startswith("<")]


def _build_line(node: Node, innermost: re.Match[str]) -> SourceLine:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    module = stack[-1][0] if stack else ""
    return SourceLine(innermost["file"], int(innermost["line"]), innermost["code"] or "", re.sub(r"^L\['self'\]\.?", "", module))


def find_script_line(node: torch._C.Node) -> SourceLine | None:
    """Return the line of a TorchScript node's source range, or None."""
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
def build_script_prototype(line: SourceLine) -> torch._C.Node:
    """Create a TorchScript node with the source range `line`, for `copyMetadata`. Python can copy source ranges but not create them.

    The node is compiled from a one-statement syntax tree that claims to be at that file and line.
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
