"""What the signature says of an entry's arguments: its symbols as expressions, dims in them, and where each symbol is read."""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping
from typing import Any

from lowering.legalize.emitter import Origin
from lowering.signature import Signature
from lowering.sizes import expression as ex
from lowering.sizes.expression import Atom, Expression, Shape


def symbols(signature: Signature) -> dict[str, Expression]:
    """Each symbol of the signature as an expression: a symbol that is a multiple of k is k times an atom, so that it divides by k exactly."""
    found = {}
    for name, bound in signature.symbols.items():
        step = bound.multiple_of
        high = None if bound.max is None else bound.max // step
        found[name] = ex.symbol(name if step == 1 else f"{name}/{step}", -(-max(bound.min, 0) // step), high) * ex.number(step)
    return found


def dim_expression(dim: int | str, atoms: dict[str, Expression]) -> Expression:
    """A dim of the signature (`8`, `batch`, `2*seq + 1`) as an expression; ValueError for a form that dims do not have."""
    return ex.number(dim) if isinstance(dim, int) else parse_dim(ast.parse(dim, mode="eval").body, atoms)


def parse_dim(node: ast.expr, atoms: dict[str, Expression]) -> Expression:
    match node:
        case ast.Constant(value=int(value)):
            return ex.number(value)
        case ast.Name(id=name):
            return atoms.setdefault(name, ex.symbol(name))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -parse_dim(operand, atoms)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return parse_dim(left, atoms) + parse_dim(right, atoms)
        case ast.BinOp(op=ast.Sub(), left=left, right=right):
            return parse_dim(left, atoms) - parse_dim(right, atoms)
        case ast.BinOp(op=ast.Mult(), left=left, right=right):
            return parse_dim(left, atoms) * parse_dim(right, atoms)
        case ast.BinOp(op=ast.FloorDiv() | ast.Div(), left=left, right=right):
            return ex.floordiv(parse_dim(left, atoms), parse_dim(right, atoms))
        case ast.BinOp(op=ast.Mod(), left=left, right=right):
            return ex.remainder(parse_dim(left, atoms), parse_dim(right, atoms))
        case ast.Call(func=ast.Name(id=name), args=[first, *others]) if name.lower() in ("max", "min"):
            pick = ex.maximum if name.lower() == "max" else ex.minimum
            return functools.reduce(pick, (parse_dim(other, atoms) for other in others), parse_dim(first, atoms))
    raise ValueError(f"'{ast.unparse(node)}' is no form of dim")


def origins(signature: Signature, arguments: list[Any], shapes: list[Shape], atoms: Mapping[str, Expression]) -> dict[Atom, Origin]:
    """For each atom, the argument that is an int, or the argument dim that it is read from: the one that is the plainest function of it."""
    found: dict[Atom, Origin] = {}
    for declared, argument in zip(signature.arguments, arguments, strict=True):
        if declared.value is not None:
            found |= dict.fromkeys(atoms[declared.value].atoms(), Origin(argument, is_argument=True))
    for argument, shape in zip(arguments, shapes, strict=True):
        for position, dim in enumerate(shape):
            read = {atom for atom in dim.atoms() if atom.op == "symbol"}
            if len(read) != 1:
                continue
            atom = read.pop()
            terms = dict(dim.terms)
            scale, offset = terms.pop((atom,), 0), terms.pop((), 0)
            if scale and not terms and (atom not in found or (scale, abs(offset)) < (found[atom].scale, abs(found[atom].offset))):
                found[atom] = Origin(argument, position, scale, offset, is_argument=True)
    return found
