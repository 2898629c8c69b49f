"""States in the attributes of @main's arguments: a consumer may write their new values over the old ones."""

from __future__ import annotations

from typing import Any, Literal

from lowering.ir import mlir
from lowering.signature import Signature

Aliases = Literal["tf.aliasing_output", "jax.buffer_donor", "none"]


def write(module: Any, signature: Signature, form: Aliases) -> None:
    """Mark each argument that is a state.

    form: `tf.aliasing_output` names the result that is its new value, `jax.buffer_donor` only allows its memory to be reused.
    """
    if form == "none" or not signature.states:
        return
    from torch_mlir import ir

    main = mlir.find_main(module.body.operations)
    with module.context:
        index = ir.IntegerType.get_signless(32)
        marks = {argument: ir.IntegerAttr.get(index, result) if form == "tf.aliasing_output" else ir.BoolAttr.get(True)
                 for argument, result in signature.states.items()}
        count = len(main.attributes["function_type"].value.inputs)
        held = list(main.attributes["arg_attrs"]) if "arg_attrs" in main.attributes else [ir.DictAttr.get({})] * count
        main.attributes["arg_attrs"] = ir.ArrayAttr.get([
            ir.DictAttr.get({**{entry.name: entry.attr for entry in own}, form: marks[position]}) if position in marks else own
            for position, own in enumerate(held)
        ])
