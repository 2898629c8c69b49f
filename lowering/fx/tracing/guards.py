"""The conditions on sizes under which an exported program is right, and which no dim expresses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sympy
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from lowering.fx.names import Names, input_names, input_sources, name_dims

_INT = re.compile(r"L\['(\w+)'\](?!\[|\.)")
_FLAT = re.compile(r"L\['flat_args'\]\[(\d+)\]")  # how a strict capture calls an input: its number, constants counted
_SIZE = re.compile(r"(L\['[^']+'\](?:\[[^\]]*\]|\.(?!size\()\w+)*)\.size\(\)\[(\d+)\]")


@contextmanager
def record_guards(program: ExportedProgram) -> Iterator[list[sympy.Expr]]:
    """Record the assumptions on sizes that retracing makes inside the block.

    The yielded list is complete when the block ends. Assumptions that a size is not 0 or 1 are left out: a dim of unknown size does not
    broadcast, which is also right at 1.
    """
    values = (node.meta.get("val") for node in program.graph.nodes)
    env = next((value.fake_mode.shape_env for value in values if isinstance(value, torch._subclasses.FakeTensor)), None)
    before = len(env.guards) if env is not None else 0
    found: list[sympy.Expr] = []
    yield found
    assumed = [guard.expr for guard in env.guards[before:]] if env is not None else []
    found += [expr for expr in assumed if not (isinstance(expr, sympy.Ne) and expr.rhs in (0, 1))]


def list_guards(program: ExportedProgram, names: Names, assumed: Sequence[sympy.Expr]) -> Iterator[str]:
    """Yield the guards that torch checks only in `ep.module()`, and assumptions of later traces, as Python expressions in the symbols.

    Guards that the dims imply are left out.
    """
    given, sources = input_names(program), input_sources(program)
    values = {given.get(node.name, node.name): node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    sizes = {name: name_dims(value.shape, names) for name, value in values.items() if isinstance(value, torch.Tensor)}
    ints = {name for name, value in values.items() if isinstance(value, torch.SymInt)}
    flat = [given.get(str(spec.arg.name), str(spec.arg.name)) for spec in program.graph_signature.input_specs
            if spec.kind is InputKind.USER_INPUT]
    for code in program._guards_code or ():
        code = _FLAT.sub(lambda match: f"L['{flat[int(match[1])]}']", code)
        text = _SIZE.sub(lambda match: f"({sizes[sources[match[1]]][int(match[2])]})" if sources.get(match[1]) in sizes else match[0], code)
        text = _INT.sub(lambda match: match[1] if match[1] in ints else match[0], text)
        text = re.sub(r"(?<![\w])\((\w+)\)", r"\1", text)
        left, equals, right = text.partition(" == ")
        if not (equals and left == right):
            yield text
    # without torch's assumption that sizes are positive, by which sympy would take `n >= 1` for true
    known = {symbol: sympy.Symbol(symbol.name, integer=True) for meaning in names.values() for symbol in meaning.free_symbols}
    plain = {symbol: meaning.xreplace(known) for symbol, meaning in names.items()}
    named = (sympy.sympify(expr).subs(plain) for expr in assumed)
    yield from (str(expr) for expr in named if expr.free_symbols and expr.free_symbols <= set(known.values()))
