"""Outline the ops between the marks of a composite as a function: `stablehlo.composite` with its decomposition as body.

StableHLO's ops are pure, so the body is all that the marked result needs, down to the marked operands. Sizes that the program computes from
its arguments are computed in the body from the operands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch_mlir import ir

from lowering.custom import marks
from lowering.custom.naming import DIMS, parse_dims
from lowering.ir import builtin, composites, mlir
from lowering.ir.chlo import RAGGED_DOT
from lowering.legalize import arguments, ragged_dots
from lowering.legalize.emitter import Emitter, Origin
from lowering.signature import Argument, Signature
from lowering.sizes import normal
from lowering.sizes.expression import Atom, Expression
from lowering.sizes.parsing import Unknown

VERSION = 1  # of the attributes that a composite has
_SIZE_OF = "stablehlo.get_dimension_size"


@dataclass(frozen=True)
class Unformed:
    """A composite whose body cannot be a function of its operands. It stays plain ops."""

    name: str
    cause: str
    line: str


class _Open(Exception):
    """The body reads values other than its operands. The message names them."""


def outline(module: Any, signature: Signature) -> list[Unformed]:
    """Replace the marks of `@main` by composites, in place, and return those that stay plain ops."""
    main = mlir.find_entry(module)
    block = main.regions[0].blocks[0]
    found = [op for op in mlir.walk_operations(main) if _read_target(op) in marks.NAMES]
    operands: dict[int, dict[int, Any]] = {}
    for op in found:
        if _read_target(op) == marks.OPERAND:
            operands.setdefault(_read_argument(op, "number"), {})[_read_argument(op, "index")] = op
    outliner = _Outliner(module, block, signature)
    unformed = []
    with module.context, ir.Location.unknown():
        for op in found:
            if _read_target(op) != marks.RESULT:
                continue
            given = operands.get(_read_argument(op, "number"), {})
            name, attributes = _read_argument(op, "name"), json.loads(_read_argument(op, "attributes"))
            try:
                if len(given) != len(attributes["operands"]) or op.operation.parent != main.operation:
                    raise _Open("an operand of it is computed elsewhere, or it is inside a branch or loop")
                outliner.outline(op, [given[index] for index in sorted(given)], name, attributes)
            except _Open as error:
                unformed.append(Unformed(name, str(error), str(op.location)))
        for op in found:
            op.results[0].replace_all_uses_with(op.operands[0])
            op.erase()
    if found:
        mlir.run(module, "builtin.module(func.func(canonicalize,cse))", "composites")
    return unformed


class _Outliner:
    """Builds the functions of composites, and shares those that are equal."""

    def __init__(self, module: Any, block: Any, signature: Signature) -> None:
        self._module, self._block = module, block
        self._atoms = normal.symbols(signature.symbols)
        self._dims = arguments.list_shapes(signature.arguments, self._atoms)
        self._values = [argument.value for argument in signature.arguments]
        self._made: dict[str, str] = {}

    def outline(self, result: Any, operands: Sequence[Any], name: str, attributes: Mapping[str, Any]) -> None:
        """Replace the uses of the mark `result` by a composite, or by the op that its name means. Raises _Open."""
        if name == RAGGED_DOT:
            self._write_ragged_dot(result, dict(zip(attributes["operands"], (mark.operands[0] for mark in operands), strict=True)))
            return
        body = self._build(result, operands)
        text = body.get_asm(large_elements_limit=None)
        if text in self._made:
            body.erase()
        else:
            self._made[text] = f"{name}.impl_{len(self._made)}"
            body.attributes["sym_name"] = ir.StringAttr.get(self._made[text])
        with ir.InsertionPoint(result), result.location:
            created = ir.Operation.create(
                "stablehlo.composite", results=[result.results[0].type], operands=[mark.operands[0] for mark in operands],
                attributes={
                    "name": ir.StringAttr.get(name),
                    "composite_attributes": _convert_attributes(attributes),
                    "decomposition": ir.FlatSymbolRefAttr.get(self._made[text]),
                    "version": ir.IntegerAttr.get(ir.IntegerType.get_signless(32), VERSION),
                },
            )
        result.results[0].replace_all_uses_with(created.result)

    def _write_ragged_dot(self, result: Any, operands: Mapping[str, Any]) -> None:
        """Replace the uses of the mark `result` of a grouped product by a ragged dot. Raises _Open."""
        if obstacle := ragged_dots.find_obstacle(operands):
            raise _Open(obstacle)
        with ir.InsertionPoint(result), result.location:
            product = ragged_dots.build(list(operands.values()), result.results[0].type)
        result.results[0].replace_all_uses_with(product)

    def _build(self, result: Any, operands: Sequence[Any]) -> Any:
        """Create the function of a composite at the end of the module. Raises _Open."""
        marked = {mark.results[0]: mark for mark in operands}
        leaves: list[Any] = []
        inside = self._collect_ops(result.operands[0], marked, leaves)
        taken = sorted(((leaf, self._find_size(leaf, marked)) for leaf in leaves), key=lambda pair: str(pair[1]))
        source = result.operands[0]
        types = [mark.results[0].type for mark in operands]
        type_ = ir.TypeAttr.get(ir.FunctionType.get(types, [source.type]))
        private = {"sym_name": ir.StringAttr.get("composite"), "function_type": type_, "sym_visibility": ir.StringAttr.get("private")}
        function = ir.Operation.create("func.func", attributes=private, regions=1, ip=ir.InsertionPoint(self._module.body))
        try:
            entry = function.regions[0].blocks.append(*types)
            emitter = self._build_emitter(entry, operands, [size for _, size in taken])
            mapping = dict(zip(marked, entry.arguments, strict=True))
            mapping |= {leaf: emitter.size(size, builtin.read_element(leaf)) for leaf, size in taken}
            with ir.InsertionPoint(entry):
                for op in inside:
                    composites.clone(op, mapping)
                ir.Operation.create("func.return", operands=[mapping[source]])
            emitter.close()
        except _Open:
            function.erase()
            raise
        return function

    def _build_emitter(self, entry: Any, operands: Sequence[Any], sizes: Sequence[Expression]) -> Emitter:
        """Return an emitter that reads the symbols of `sizes` from the dims of the operands. Raises _Open if they do not tell one."""
        declared = [Argument("input", f"operand {number}", "float32", parse_dims(mark.attributes[DIMS].value)[0])
                    for number, mark in enumerate(operands)]
        shapes, taken, values = [], [], []
        for argument, value in zip(declared, entry.arguments, strict=True):
            try:
                shapes.append(tuple(normal.size(dim, self._atoms) for dim in argument.dims))
            except Unknown:
                continue  # a dim that data decide tells no symbol
            taken.append(argument)
            values.append(value)
        origins: dict[Atom, Origin] = arguments.choose_origins(Signature(tuple(taken), ()), values, shapes, self._atoms)
        for size in sizes:
            if missing := [atom for atom in size.atoms() if atom.op == "symbol" and atom not in origins]:
                raise _Open(f"it needs the size {', '.join(map(str, missing))}, which no operand has")
        emitter = Emitter(entry)
        emitter.origins.update(origins)
        return emitter

    def _collect_ops(self, value: Any, marked: Mapping[Any, Any], leaves: list[Any]) -> list[Any]:
        """Return the ops that compute `value` from the marked operands, each after those that it uses.

        The order does not depend on that of the program, so equal bodies have equal texts. leaves: receives the sizes that they take from
        the program. Raises _Open.
        """
        ordered: dict[Any, None] = {}
        pending = [(value, False)]
        while pending:
            found, is_read = pending.pop()
            owner = found.owner
            if found in marked or found in leaves or owner in ordered:
                continue
            if isinstance(owner, ir.Block):
                self._check_argument(found)
                leaves.append(found)
            elif owner.name == _SIZE_OF and owner.operands[0] not in marked:
                leaves.append(found)
            elif owner.name == "stablehlo.composite" or _read_target(owner) in marks.NAMES:
                raise _Open("it reads what another composite computes, other than as an operand")
            elif is_read:
                ordered[owner] = None
            else:
                pending.append((found, True))
                pending += [(read, False) for read in reversed(list(_reads(owner)))]
        return list(ordered)

    def _check_argument(self, argument: Any) -> None:
        number = ir.BlockArgument(argument).arg_number
        if self._values[number] is None:
            raise _Open(f"it reads argument {number} of the program, which is no operand")

    def _find_size(self, leaf: Any, marked: Mapping[Any, Any]) -> Expression:
        """Return the known form of a size or int of the program. Raises _Open."""
        if isinstance(leaf.owner, ir.Block):
            return self._atoms[self._values[ir.BlockArgument(leaf).arg_number]]  # type: ignore[index]
        position = leaf.owner.attributes["dimension"].value
        read = leaf.owner.operands[0]
        for mark in marked.values():
            if mark.operands[0] == read:
                return self._normalize(parse_dims(mark.attributes[DIMS].value)[0][position])
        if isinstance(read.owner, ir.Block):
            return self._dims[ir.BlockArgument(read).arg_number][position]
        raise _Open("it reads the size of a tensor that is no operand")

    def _normalize(self, dim: int | str) -> Expression:
        try:
            return normal.size(dim, self._atoms)
        except Unknown:
            raise _Open(f"it needs the size {dim}, which data decide") from None


def _read_target(op: Any) -> str:
    return str(op.attributes["call_target_name"].value) if op.name == "stablehlo.custom_call" else ""


def _read_argument(mark: Any, name: str) -> Any:
    return mark.attributes["backend_config"]["arguments"][name]["value"].value


def _reads(operation: Any) -> Iterator[Any]:
    """Iterate over the values from outside that an op and the ops in its regions use."""
    yield from operation.operands
    for region in operation.regions:
        for block in region.blocks:
            defined = set(block.arguments)
            for inner in block.operations:
                yield from (value for value in _reads(inner.operation) if value not in defined)
                defined.update(inner.operation.results)


def print_attributes(attributes: Mapping[str, Any]) -> str:
    """Return the attributes of a composite as either build of MLIR prints them."""
    with ir.Context(), ir.Location.unknown():
        return str(_convert_attributes(attributes))


def _convert_attributes(attributes: Mapping[str, Any]) -> ir.DictAttr:
    return ir.DictAttr.get({key: _convert_attribute(value) for key, value in attributes.items()})


def _convert_attribute(value: Any) -> ir.Attribute:
    """Return a number, bool, text, or list of ints or texts, as a typed attribute."""
    if isinstance(value, bool):
        return ir.BoolAttr.get(value)
    if isinstance(value, int):
        return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
    if isinstance(value, float):
        return ir.FloatAttr.get(ir.F64Type.get(), value)
    if isinstance(value, str):
        return ir.StringAttr.get(value)
    if value and isinstance(value[0], str):
        return ir.ArrayAttr.get([ir.StringAttr.get(each) for each in value])
    return ir.Attribute.parse(f"dense<[{', '.join(map(str, value))}]> : tensor<{len(value)}xi64>")
