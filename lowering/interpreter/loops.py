"""Loops of TorchScript whose count or condition is only known at run time: `prim::Loop` as torch's `while_loop` under torch.export.

Values that an iteration changes are carried, and values that it only reads are passed in. Lists that it appends to are written into
tensors, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch._higher_order_ops.while_loop import while_loop_op
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from lowering.errors import Problem, Unsupported
from lowering.interpreter import carried as carry
from lowering.interpreter import lists
from lowering.interpreter.lists import OfUnknownLength, Rows
from lowering.interpreter.machine import Machine
from lowering.interpreter.state import Changed, State, StateChanges
from lowering.interpreter.values import UNINITIALIZED, to_tensor
from lowering.torchscript.nodes import find_captured, nodes, outputs, place

Node: TypeAlias = torch._C.Node
FOREVER = 2**63 - 1  # the count of a loop that only its condition ends


class Unsettled(Unsupported):
    """A carried value has another dtype, shape or structure after an iteration than before it."""


@dataclass
class Plan:
    """Effects of an iteration on the leaves of a state, and on the lists in it."""

    varying: set[int] = field(default_factory=set)
    written: set[int] = field(default_factory=set)  # in place; these vary too
    growing: dict[int, list[Any]] = field(default_factory=dict)  # list -> the values that an iteration appends to it
    made: dict[int, Any] = field(default_factory=dict)  # leaves without a value before the loop -> a value like that after an iteration
    conditional: bool = False


class Loop:
    """One `prim::Loop` from iteration `start` on.

    `values` are the values of the graph around it. `again` is whether the first iteration runs.
    """

    def __init__(self, machine: Machine, node: Node, values: dict[int, Any], start: int, count: Any, again: Any,
                 carried: Sequence[Any]) -> None:
        self._machine, self._node, self._start, self._again = machine, node, start, again
        self._block = next(node.blocks())
        self._iteration, *self._inputs = self._block.inputs()
        self._captured = [unique for unique in find_captured(self._block) if unique in values]
        self._attributes = machine.attributes(self._block, values)
        self._carried = len(carried)
        read = [values[unique] for unique in self._captured]
        self._state = State([*carried, count, *read, *self._attributes.values()])
        self._count = count
        self._is_endless = isinstance(count, int) and count == FOREVER

    def run(self) -> tuple[Any, ...]:
        """Return the carried values after the loop.

        Raises Unsupported with the values that a loop of fixed shapes cannot carry.
        """
        plan = self._make_plan()
        return self._finish(plan, self._trace(plan))

    def _make_plan(self) -> Plan:
        """Run iterations on tensors without data until no further leaf is found to vary."""
        plan = Plan(conditional=self._again is not True)
        while True:
            with carry.probe(self._state.leaves):
                given = [self._probe(index, plan) for index in range(len(self._state.leaves))]
                versions = [carry.write_count(leaf) for leaf in given]
                again, done = self._run_iteration(given, plan, carry.unknown_int())
                more = self._extend_plan(plan, given, versions, done)
                plan.conditional |= again is not True
            for index, value in plan.made.items():
                self._state.leaves[index] = carry.make_unassigned(value)
            if not more and not plan.made:
                return plan
            plan.made.clear()

    def _extend_plan(self, plan: Plan, given: list[Any], versions: list[int | None], done: StateChanges) -> bool:
        """Add the changes of an iteration to the plan, and return whether there was a new one."""
        before = (len(plan.varying), len(plan.written), set(plan.growing))
        problems, unsettled = [], []
        for index, value in done.leaves.items():
            if self._state.leaves[index] is UNINITIALIZED and value is not UNINITIALIZED:
                plan.made[index] = value
                continue
            is_written = carry.write_count(given[index]) != versions[index]
            if is_written:
                plan.written.add(index)
                problems += self._report_unwritable(index, value is given[index])
            if is_written or not carry.is_unchanged(given[index], value):
                plan.varying.add(index)
                unsettled += self._report_misfit(index, value)
        plan.growing.update(done.added)
        problems += [problem for added in done.added.values() for problem in self._report_unstackable(added)]
        if problems:
            raise Unsupported(problems + unsettled)
        if unsettled:
            raise Unsettled(unsettled)
        return before != (len(plan.varying), len(plan.written), set(plan.growing))

    def _report_misfit(self, index: int, after: Any) -> list[Problem]:
        before = self._state.leaves[index]
        kind = carry.classify(before)
        if kind is not None and kind == carry.classify(after) and carry.have_equal_shapes(before, after):
            return []
        cause = f"carries '{self._name(index)}', which is {carry.describe(before)} before an iteration and {carry.describe(after)} after it"
        return [self._problem(self._node, cause, "give it its final shape and dtype before the loop")]

    def _report_unwritable(self, index: int, is_kept: bool) -> list[Problem]:
        if not is_kept:
            return [self._problem(self._node, f"writes to '{self._name(index)}' in place and then assigns it", "do one of the two")]
        place = carry.storage_id(self._state.leaves[index])
        others = {self._name(other) for other, leaf in enumerate(self._state.leaves)
                  if other != index and isinstance(leaf, torch.Tensor) and carry.storage_id(leaf) == place}
        if not others:
            return []
        cause = f"writes to '{self._name(index)}' in place, which shares memory with '{', '.join(sorted(others))}'"
        return [self._problem(self._node, cause, "clone one of them before the loop")]

    def _report_unstackable(self, added: list[Any]) -> list[Problem]:
        rows = [carry.first_element([value]) for value in added]
        if not all(isinstance(row, torch.Tensor) for row in rows):
            fix = "append tensors; split a list of tuples into several lists"
            return [self._problem(self._node, "appends a value that is not a tensor to a list", fix)]
        if not all(carry.are_alike(row, rows[0]) for row in rows):
            tensors = " and ".join(map(carry.describe, rows))
            return [self._problem(self._node, f"appends tensors of different shapes to a list: {tensors}", "append them to separate lists")]
        return []

    def _probe(self, index: int, plan: Plan) -> Any:
        """Return a leaf as an iteration sees it: a writable copy of a tensor, or an unknown number if it varies."""
        leaf = self._state.leaves[index]
        if isinstance(leaf, torch.Tensor):
            return leaf.detach().clone()
        if index not in plan.varying:
            return leaf
        return carry.unknown_int() if carry.classify(leaf) == (int,) else to_tensor(leaf)

    def _run_iteration(self, leaves: Sequence[Any], plan: Plan, iteration: Any) -> tuple[Any, StateChanges]:
        """Run the block once, and return whether the loop goes on and how the state changed."""
        roots, given = self._state.fill(leaves, tuple(plan.growing))
        values = dict(zip(self._captured, roots[self._carried + 1 :], strict=False))
        values |= {value.unique(): root for value, root in zip(self._inputs, roots, strict=False)}
        values[self._iteration.unique()] = iteration
        if not self._is_endless and isinstance(iteration, torch.SymInt):
            self._machine.iterations[iteration.node.expr] = (iteration, self._start, roots[self._carried] - 1)
        attributes = dict(zip(self._attributes, roots[self._carried + 1 + len(self._captured) :], strict=True))
        with self._machine.reading(attributes) as held_now:
            again, *carried = self._machine.block(self._block, values)
        if problems := self._find_varying_sizes(values):
            raise Unsupported(problems)
        try:
            behind = [*carried, *roots[self._carried : len(roots) - len(attributes)], *(held_now[name] for name in attributes)]
            return again, self._state.find_changes(behind, given)
        except Changed as changed:
            name = self._name_root(changed.root)
            cause = f"carries '{name}', which is {changed.before} before an iteration and {changed.after} after it"
            raise Unsettled(self._problem(self._node, cause, "keep its structure in the loop, and only append to lists")) from None

    def _find_varying_sizes(self, values: dict[int, Any]) -> list[Problem]:
        """Report the nodes that produce tensors whose sizes differ between iterations."""
        known = carry.find_unbacked(self._state.leaves)
        made = ((node, values[value.unique()]) for node in nodes(self._block) for value in outputs(node) if value.unique() in values)
        fix = "use a tensor of one size, and mask the elements that do not count"
        return [self._problem(node, f"gives {carry.describe(value)}, whose size differs between iterations", fix)
                for node, value in made if isinstance(value, torch.Tensor) and free_unbacked_symbols(list(value.shape)) - known]

    def _trace(self, plan: Plan) -> tuple[dict[int, Any], dict[int, torch.Tensor], StateChanges]:
        """Trace the loop as an operator, and return its results by leaf and the rows of the lists that grew."""
        varying = sorted(plan.varying)
        growing = [] if plan.conditional or self._is_endless else list(plan.growing)
        handed = [index for index, leaf in enumerate(self._state.leaves)
                  if index not in plan.varying and isinstance(leaf, torch.Tensor | torch.SymInt)]
        buffers = [self._make_buffer(number, plan.growing[number]) for number in growing]
        condition = [to_tensor(self._again)] if plan.conditional else []
        start = [self._start, *condition, *(to_tensor(self._state.leaves[index]) for index in varying), *buffers]
        counter = self._state.trees[self._carried].index  # type: ignore[union-attr]
        last: list[StateChanges] = []

        def split(given: Sequence[Any]) -> tuple[Any, Any, list[Any], Sequence[Any]]:
            iteration, *rest = given[: len(start)]
            again = rest.pop(0) if plan.conditional else None
            leaves = list(self._state.leaves)
            for index, value in zip([*varying, *handed], [*rest[: len(varying)], *given[len(start) :]], strict=True):
                leaves[index] = value
            return iteration, again, leaves, rest[len(varying) :]

        def goes_on(*given: Any) -> Any:
            iteration, again, leaves, _ = split(given)
            if self._is_endless:
                return again.clone()
            within = iteration < leaves[counter]
            return within if again is None else torch.logical_and(again, to_tensor(within))

        def body(*given: Any) -> tuple[Any, ...]:
            iteration, _, leaves, rows = split(given)
            for index in plan.written:
                leaves[index] = leaves[index].clone()
            again, done = self._run_iteration(leaves, plan, iteration)
            last[:] = [done]
            results = [iteration + 1, *([to_tensor(again)] if plan.conditional else [])]
            results += [to_tensor(done.leaves[index]) for index in varying]
            results += [self._append_rows(number, buffer, done.added[number], iteration)
                        for number, buffer in zip(growing, rows, strict=True)]
            return tuple(carry.separate(results, given))

        with torch._C._AutoDispatchBelowAutograd():
            results = while_loop_op(goes_on, body, tuple(start), tuple(self._state.leaves[index] for index in handed))
        results = list(results[1:])
        results = results[1:] if plan.conditional else results
        return dict(zip(varying, results, strict=False)), dict(zip(growing, results[len(varying) :], strict=True)), last[0]

    def _make_buffer(self, number: int, added: list[Any]) -> torch.Tensor:
        """Return a tensor for a list as it is after the loop, with its elements from before the loop: (length, *shape)."""
        first, held_before = carry.first_element(added), self._read_before(number, added)
        length = lists.length(held_before) + (self._count - self._start) * lists.length(added)
        room = torch.zeros([length, *first.shape], dtype=first.dtype)
        return carry.write_rows(room, lists.stack_all(held_before), 0) if held_before else room

    def _append_rows(self, number: int, buffer: torch.Tensor, added: list[Any], iteration: Any) -> torch.Tensor:
        rows = lists.stack_all(added)
        return carry.write_rows(buffer, rows, lists.length(self._read_before(number, added)) + (iteration - self._start) * rows.shape[0])

    def _read_before(self, number: int, added: list[Any]) -> list[Any]:
        """Return the elements of a list before the loop, if they fit into one tensor with the appended ones."""
        before = self._state.containers[number]
        fits = all(isinstance(value, torch.Tensor | Rows) and carry.are_alike(carry.first_element([value]), carry.first_element(added))
                   for value in before)
        return list(before) if fits else []

    def _finish(self, plan: Plan, done: tuple[dict[int, Any], dict[int, torch.Tensor], StateChanges]) -> tuple[Any, ...]:
        """Apply the loop's effects to lists, attributes and tensors, and return the carried values."""
        results, rows, last = done
        leaves = [results.get(index, leaf) for index, leaf in enumerate(self._state.leaves)]
        for index in plan.written:
            leaves[index] = self._state.leaves[index].copy_(results[index])
        _, made = self._state.fill(leaves)
        for number, added in plan.growing.items():
            if number in rows and self._read_before(number, added):
                made[number].clear()
            made[number].append(Rows(rows[number]) if number in rows else OfUnknownLength())
        for number in last.kept:
            made[number] = _replace_content(self._state.containers[number], made[number])
        roots, _ = self._state.fill(leaves, (), made)
        for (name, before), after in zip(self._attributes.items(), roots[len(roots) - len(self._attributes) :], strict=True):
            if after is not before:
                self._machine.assign(name, after)
        return tuple(roots[: self._carried])

    def _problem(self, node: Node, cause: str, fix: str) -> Problem:
        return Problem(place(node), f"the loop {cause}" if node is self._node else cause, fix)

    def _name(self, index: int) -> str:
        return self._name_root(self._state.owners[index])

    def _name_root(self, root: int) -> str:
        if root > self._carried + len(self._captured):
            return list(self._attributes)[root - self._carried - 1 - len(self._captured)]
        return self._inputs[root].debugName().partition(".")[0] if root < self._carried else "a value from before the loop"


def _replace_content(container: Any, new: Any) -> Any:
    """Replace the content of a list or dict, and return it."""
    if isinstance(container, list):
        container[:] = new
    else:
        container.update(new)
    return container
