"""Read the signature of an entry: symbols as expressions, the dims of arguments, and the origin of each symbol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lowering.errors import Problem, Unsupported
from lowering.legalize.emitter import Origin
from lowering.signature import Argument, Signature
from lowering.sizes import normal
from lowering.sizes.expression import Atom, Expression, Shape
from lowering.sizes.parsing import Unknown


def list_shapes(arguments: Sequence[Argument], atoms: dict[str, Expression]) -> list[Shape]:
    """Return the dims of each argument. Raises Unsupported, which names every dim that has no form."""
    shapes, problems = [], []
    for argument in arguments:
        shape = []
        for position, dim in enumerate(argument.dims):
            try:
                shape.append(normal.size(dim, atoms))
            except Unknown as error:
                problems.append(Problem(f"dim {position} of {argument.name}", str(error)))
        shapes.append(tuple(shape))
    if problems:
        raise Unsupported(problems)
    return shapes


def choose_origins(signature: Signature, arguments: list[Any], shapes: list[Shape], atoms: Mapping[str, Expression]) -> dict[Atom, Origin]:
    """Choose the origin of each atom: an argument that is an int, or the argument dim that is the simplest function of it."""
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
