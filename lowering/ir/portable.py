"""Portable artifacts of StableHLO: how a program goes from torch_mlir's build to jaxlib's, and to readers of other versions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lowering.errors import Problem, StageFailed
from lowering.ir import chlo, expansion, joining, mlir, quantized_types

REQUIREMENTS = ("NONE", "WEEK_4", "WEEK_12", "MAX")
# In jaxlib's build. The conversion of StableHLO refuses MHLO's ragged dots, so CHLO's ops are converted after it.
TO_MHLO = "builtin.module(stablehlo-legalize-to-hlo,func.func(chlo-legalize-to-hlo),canonicalize,cse)"


def to_hlo(module: Any) -> Any:
    """Convert StableHLO of torch_mlir's build to a module of jaxlib's build, in a new context."""
    from jaxlib.mlir.dialects import stablehlo as hlo

    context = mlir.create_hlo_context()
    with mlir.collect_diagnostics(module.context, "mhlo"), context, mlir.collect_diagnostics(context, "mhlo"):
        made = hlo.deserialize_portable_artifact(context, _serialize_for_jaxlib(module))
    chlo.from_calls(made)
    return made


def _serialize_for_jaxlib(module: Any) -> bytes:
    """Serialize in the newest version that both builds read."""
    from jaxlib.mlir.dialects import stablehlo as hlo
    from torch_mlir._mlir_libs import _stablehlo

    version = _stablehlo.get_smaller_version(_stablehlo.get_current_version(), hlo.get_current_version())
    scratch = mlir.copy(module)  # the serialization converts its argument to VHLO in place
    chlo.to_calls(scratch)
    return _stablehlo.serialize_portable_artifact(scratch, version)  # type: ignore[no-any-return]


def read_version(target: str) -> str:
    """Return the version that `target` means: itself, or that of a compatibility requirement (`WEEK_4`). Raises ValueError."""
    from jaxlib.mlir.dialects import stablehlo

    requirement = getattr(stablehlo.StablehloCompatibilityRequirement, target, None)
    version = target if requirement is None else stablehlo.get_version_from_compatibility_requirement(requirement)
    oldest, newest = stablehlo.get_minimum_version(), stablehlo.get_current_version()
    is_version = re.fullmatch(r"\d+\.\d+\.\d+", version) is not None
    if not is_version or not _split_version(oldest) <= _split_version(version) <= _split_version(newest):
        raise ValueError(f"is {target!r}; use a version from {oldest} to {newest}, or one of {', '.join(REQUIREMENTS)}")
    return version  # type: ignore[no-any-return]


def _split_version(version: str) -> list[int]:
    return list(map(int, version.split(".")))


def write_names(module: Any, arguments: Sequence[str], results: Sequence[str]) -> None:
    """Write the names of the arguments and results of `@main` as `jax.arg_info` and `jax.result_info`, as JAX's exports have them."""
    ir = mlir.get_ir(module.context)
    main = mlir.find_main(module.body.operations).operation
    for key, name, texts in (("arg_attrs", "jax.arg_info", arguments), ("res_attrs", "jax.result_info", results)):
        with module.context:
            given = list(main.attributes[key]) if key in main.attributes else [ir.DictAttr.get({}) for _ in texts]
            named = [ir.DictAttr.get({**{item.name: item.attr for item in old}, name: ir.StringAttr.get(text)})
                     for old, text in zip(given, texts, strict=True)]
            main.attributes[key] = ir.ArrayAttr.get(named)


def serialize(module: Any, target: str = "WEEK_4", names: tuple[Sequence[str], Sequence[str]] | None = None,
              entry: str = mlir.ENTRY) -> tuple[bytes, str]:
    """Serialize MHLO of jaxlib's build as StableHLO of plain arithmetic (see `expansion`), and return the version.

    target: see `read_version`; names: of the arguments and of the results; entry: of the entry function. Raises StageFailed where that
    version has no form of an op.
    """
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import stablehlo

    version = read_version(target)
    copy = mlir.copy_to(module, mlir.create_hlo_context())
    chlo.to_calls(copy)
    mlir.run(copy, "builtin.module(hlo-legalize-to-stablehlo)", "portable artifact")
    copy = quantized_types.expand(copy)
    expansion.expand(copy)
    if names:
        write_names(copy, *names)
    _rename_entry(copy, entry)
    found: list[str] = []

    def collect(diagnostic: Any) -> bool:
        found.append(str(diagnostic.message).partition(": %")[0])
        return True

    handler = copy.context.attach_diagnostic_handler(collect)
    try:
        with copy.context:
            return stablehlo.serialize_portable_artifact(copy, version), version
    except (ir.MLIRError, ValueError) as error:
        cause = f"StableHLO {version} cannot hold this program: {'; '.join(found) or str(error).splitlines()[0]}"
        raise StageFailed(Problem("portable artifact", cause, "raise stages.package.target_version"), str(error)) from error
    finally:
        handler.detach()


def join(parts: Mapping[str, bytes], names: Mapping[str, tuple[Sequence[str], Sequence[str]]], version: str) -> bytes:
    """Join portable artifacts into one with a function per entry.

    names: of the arguments and of the results of each entry; version: that of the parts. Raises StageFailed.
    """
    from jaxlib.mlir.dialects import stablehlo

    modules = {entry: deserialize(part) for entry, part in parts.items()}
    for entry, module in modules.items():
        write_names(module, *names[entry])
    joined = joining.join(modules)
    with mlir.collect_diagnostics(joined.context, "portable artifact"), joined.context:
        return stablehlo.serialize_portable_artifact(joined, version)  # type: ignore[no-any-return]


def deserialize(portable: bytes, entry: str | None = None) -> Any:
    """Read a portable artifact into jaxlib's build, in a new context. Its entry becomes `@main`, which XLA runs.

    entry: the function that is meant, of an artifact with several entries. Raises StageFailed if there is none of that name.
    """
    from jaxlib.mlir.dialects import stablehlo

    context = mlir.create_hlo_context()
    with context:
        module = stablehlo.deserialize_portable_artifact(context, portable)
    if entry is not None:
        return joining.extract(module, entry)
    _rename_entry(module, mlir.ENTRY)
    return module


def _rename_entry(module: Any, name: str) -> None:
    entry = mlir.find_entry(module)
    if entry is not None:
        with module.context:
            entry.attributes["sym_name"] = mlir.get_ir(module.context).StringAttr.get(name)
