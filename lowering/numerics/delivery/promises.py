"""Promises of a program to its consumers, beside its results: arguments that share memory with results, and its composites.

A run of the program shows none of it: XLA inlines composites, and copies arguments that it may not write to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lowering.custom import marks
from lowering.errors import Problem
from lowering.ir import mlir
from lowering.legalize import composites
from lowering.level import Level, Program
from lowering.signature import Signature

_FIX = "this is a fault of the lowering: report it with the job's folder"


def find_broken(program: Program) -> list[Problem]:
    """List the states of a program in StableHLO or MHLO that share memory with another result than their new value, and the composites
    with another name or other attributes than in the exported program.
    """
    if program.at(Level.EXPORTED) is None or program.signature is None:
        return []
    return [*find_wrong_aliases(program.signature, program.ir), *_find_composites(program)]


def find_wrong_aliases(signature: Signature, module: Any) -> Iterator[Problem]:
    """Yield the arguments of `@main` that share memory with another result than their new value, or may be overwritten and are no state."""
    main = mlir.find_main(module.body.operations)
    held = list(main.attributes["arg_attrs"]) if "arg_attrs" in main.attributes else []
    for position, own in enumerate(held):
        shared = {entry.name: entry.attr for entry in own}
        name, wanted = signature.arguments[position].name, signature.states.get(position)
        if "jax.buffer_donor" in shared and wanted is None:
            yield Problem(f"argument '{name}'", "may be overwritten, and is no state", _FIX)
        if "tf.aliasing_output" in shared and (result := shared["tf.aliasing_output"].value) != wanted:
            new = "it is no state" if wanted is None else f"its new value is '{signature.computed[wanted].label}'"
            yield Problem(f"argument '{name}'", f"shares memory with result '{signature.computed[result].label}', and {new}", _FIX)


def _find_composites(program: Program) -> Iterator[Problem]:
    exported = program.at(Level.EXPORTED)
    assert exported is not None
    marked = [node.args for node in exported.ir.graph_module.graph.nodes if node.target is marks.result]
    known = {(name, composites.print_attributes(json.loads(attributes))) for _, _, name, attributes in marked}
    found = {(op.attributes["name"].value, str(op.attributes["composite_attributes"])): str(op.location)
             for op in mlir.walk_operations(program.ir) if op.name.endswith(".composite")}
    for (name, attributes), line in found.items():
        if (name, attributes) not in known:
            others = " or ".join(sorted(each for word, each in known if word == name)) or "no such composite"
            yield Problem(f"composite {name} at {line}", f"has the attributes {attributes}, the exported program has {others}", _FIX)
