"""Which ops are custom, and how each level spells their names."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

BUILTIN = ("aten", "prim", "prims")  # namespaces whose ops the levels know one by one

DIMS = "dims"  # attribute of a custom op's node, at every level: JSON, for each result tensor its dims (ints, or expressions of symbols)


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


def parts(spelled: str) -> tuple[str, str]:
    """(`ns::name`, overload) of the torch dialect's `ns.name.overload`."""
    namespace, _, rest = spelled.partition(".")
    name, _, overload = rest.partition(".")
    return f"{namespace}::{name}", overload
