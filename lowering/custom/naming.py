"""Which ops are custom, and how each level spells their names."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Sequence
from typing import Any

BUILTIN = ("aten", "prim", "prims")  # namespaces whose ops the levels know one by one

DIMS = "dims"  # attribute of a custom op's node, down to StableHLO: the dims of each result tensor, `[batch, 16], [u0]`


def is_custom(name: str, overload: str, kept: Collection[str] = ()) -> bool:
    """Whether the op of a schema (`ns::name`) becomes a custom call: it is of a library, or in `kept` (`ns.name` or `ns.name.overload`)."""
    return name.partition("::")[0] not in BUILTIN or not {dotted(name), dotted(name, overload)}.isdisjoint(kept)


def is_kept(op: Any, kept: Collection[str]) -> bool:
    """Whether an FX target is an op in `kept`."""
    schema = getattr(op, "_schema", None)
    return schema is not None and not {dotted(schema.name), dotted(schema.name, schema.overload_name)}.isdisjoint(kept)


def dotted(name: str, overload: str = "") -> str:
    """`ns::name` and its overload as the torch dialect writes them: `ns.name`, `ns.name.overload`."""
    return ".".join(filter(None, (name.replace("::", "."), overload if overload != "default" else "")))


def dims_text(shapes: Iterable[Sequence[int | str]]) -> str:
    """What DIMS holds: ints, and expressions of the signature's symbols or of those that an op's data makes."""
    return ", ".join(f"[{', '.join(map(str, dims))}]" for dims in shapes)


def dims_of(text: str) -> list[tuple[int | str, ...]]:
    """The inverse of `dims_text`."""
    shapes = ast.parse(f"[{text}]", mode="eval").body.elts  # type: ignore[attr-defined]
    return [tuple(dim.value if isinstance(dim, ast.Constant) and isinstance(dim.value, int) else ast.unparse(dim) for dim in shape.elts)
            for shape in shapes]


def parts(spelled: str) -> tuple[str, str]:
    """(`ns::name`, overload) of the torch dialect's `ns.name.overload`, which torch-mlir's own importer spells `torch.ns.name.overload`."""
    namespace, _, rest = spelled.removeprefix("torch.").partition(".")
    name, _, overload = rest.partition(".")
    return f"{namespace}::{name}", overload
