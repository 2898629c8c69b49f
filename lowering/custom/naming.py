"""Custom ops and their names at each level."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Sequence
from typing import Any

# Ops that open the file they are given: no stored program may run them.
FILE_OPS = ("from_file", "save", "load_library", "load_tensor", "read_file", "write_file")
BUILTIN = ("aten", "prim", "prims")  # namespaces whose ops each level knows individually

DIMS = "dims"  # attribute of custom op nodes, down to StableHLO: dims of each result tensor, `[batch, 16], [u0]`


def is_custom(name: str, overload: str, kept: Collection[str] = ()) -> bool:
    """Return whether the op `ns::name` becomes a custom call: it is from a library, or in `kept` (`ns.name` or `ns.name.overload`)."""
    return name.partition("::")[0] not in BUILTIN or not {join_name(name), join_name(name, overload)}.isdisjoint(kept)


def is_kept(op: Any, kept: Collection[str]) -> bool:
    """Return whether an FX target is an op in `kept`."""
    schema = getattr(op, "_schema", None)
    return schema is not None and not {join_name(schema.name), join_name(schema.name, schema.overload_name)}.isdisjoint(kept)


def join_name(name: str, overload: str = "") -> str:
    """Join `ns::name` and its overload in the form of the torch dialect: `ns.name` or `ns.name.overload`."""
    return ".".join(filter(None, (name.replace("::", "."), overload if overload != "default" else "")))


def format_dims(shapes: Iterable[Sequence[int | str]]) -> str:
    """Format the value of a DIMS attribute: ints, and expressions of symbols of the signature or of data-dependent sizes."""
    return ", ".join(f"[{', '.join(map(str, dims))}]" for dims in shapes)


def parse_dims(text: str) -> list[tuple[int | str, ...]]:
    """Parse the output of `format_dims`."""
    shapes = ast.parse(f"[{text}]", mode="eval").body.elts  # type: ignore[attr-defined]
    return [tuple(dim.value if isinstance(dim, ast.Constant) and isinstance(dim.value, int) else ast.unparse(dim) for dim in shape.elts)
            for shape in shapes]


def split_name(spelled: str) -> tuple[str, str]:
    """Split the torch dialect's `ns.name.overload` into (`ns::name`, overload).

    Also accepts torch-mlir's prefix, `torch.ns.name.overload`.
    """
    namespace, _, rest = spelled.removeprefix("torch.").partition(".")
    name, _, overload = rest.partition(".")
    return f"{namespace}::{name}", overload
