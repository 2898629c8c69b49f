"""Legalize a whole module to StableHLO: the entry's dims come from the signature, whose symbols are read from the arguments."""

from __future__ import annotations

from typing import Any

from torch_mlir import ir

from lowering.errors import Problem
from lowering.ir import mlir
from lowering.legalize import arguments, assertions, broadcasts, preparation
from lowering.legalize.patterns import control, custom_calls, folds, scalars
from lowering.legalize.rewriter import Pattern, Rewrite
from lowering.rules import Rules
from lowering.signature import Signature
from lowering.sizes import normal

PATTERNS: Rules[Pattern] = Rules.join("lowering.legalize.driver", folds.FOLDS, scalars.RULES, control.RULES, custom_calls.RULES)


def legalize(module: Any, signature: Signature, with_assertions: bool = True) -> list[Problem]:
    """Rewrite `@main` of `module` in place; return everything that could not be made StableHLO.

    See `list_assertions` for the sizes that it then refuses.
    """
    preparation.mark_unsigned(module)
    atoms = normal.symbols(signature.symbols)
    shapes = arguments.list_shapes(signature.arguments, atoms)
    values = list(mlir.find_entry(module).regions[0].blocks[0].arguments)
    ints = {value: atoms[argument.value] for argument, value in zip(signature.arguments, values, strict=True) if argument.value is not None}
    for value in ints:
        value.set_type(ir.RankedTensorType.get([], value.type, loc=ir.Location.unknown(module.context)))
    read = arguments.choose_origins(signature, values, shapes, atoms)
    rewrite = Rewrite(module, shapes, read, PATTERNS, folds.REMOVABLE)
    for value, size in ints.items():
        rewrite.known.learn_values(value, (size,))
    rewrite.symbols = {name: size for name, size in atoms.items() if all(atom in read for atom in size.atoms())}
    problems = rewrite.run()
    with module.context:
        broadcasts.mark(rewrite.block, rewrite.known)
    custom_calls.erase_stand_ins(module)
    if with_assertions:
        with module.context, ir.Location.unknown():
            assertions.emit(assertions.list_assertions(signature, rewrite.emitter, values), rewrite.emitter)
    rewrite.emitter.close()
    return problems
