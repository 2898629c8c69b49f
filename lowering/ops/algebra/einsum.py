"""einsum by diagonals, sums and matrix products, in the forms that torch-mlir does not lower."""

from __future__ import annotations

import itertools
import string
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch.fx import Node

Tensor: TypeAlias = torch.Tensor


def _parse(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Return the letters of each operand and of the result.

    An ellipsis becomes letters that the equation does not use, aligned at the right.
    """
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    unused = [letter for letter in string.ascii_letters if letter not in equation]
    extra = [rank - len(term.replace("...", "")) if "..." in term else 0 for term, rank in zip(terms, ranks, strict=True)]
    ellipsis = "".join(unused[: max(extra)])
    spelled = [term.replace("...", ellipsis[len(ellipsis) - count :]) for term, count in zip(terms, extra, strict=True)]
    if not arrow:
        letters = "".join(terms).replace("...", "")
        output = ("..." if "..." in inputs else "") + "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    return spelled, output.replace("...", ellipsis)


def needs_decomposition(node: Node) -> bool:
    """Return whether an einsum is not a single product of two operands that sums only their common letters."""
    equation, operands = node.args[0], node.args[1]
    terms, output = _parse(equation, [operand.meta["val"].dim() for operand in operands])  # type: ignore[arg-type, union-attr]
    if len(terms) != 2 or "..." in equation or "->" not in equation or any(len(set(term)) < len(term) for term in terms):  # type: ignore[operator]
        return True
    first, second = map(set, terms)
    if (first ^ second) - set(output) or not (first - second and second - first and first & second - set(output)):
        return True  # a letter is summed in one operand, or there are no rows, columns or sum; a vector aborts the process
    pairs = zip(terms, operands, strict=True)  # type: ignore[arg-type]
    sizes = [dict(zip(term, operand.meta["val"].shape, strict=True)) for term, operand in pairs]  # type: ignore[union-attr]
    return any(_is_one(sizes[0][letter]) != _is_one(sizes[1][letter]) for letter in first & second)


def _is_one(size: object) -> bool:
    return isinstance(size, int) and size == 1


def einsum(equation: str, operands: Sequence[Tensor], *, path: Sequence[int] | None = None) -> Tensor:
    """Contract the operands two at a time, in the order of `path`, else in the one that is cheapest at the traced sizes."""
    terms, output = _parse(equation, [operand.dim() for operand in operands])
    path = path or _choose_path(terms, output, operands)
    left = [_take_diagonals(operand, term) for operand, term in zip(operands, terms, strict=True)]
    order = list(path or ())
    while len(left) > 1:
        first, second = sorted((order.pop(0), order.pop(0)) if order else (0, 1))
        right = left.pop(second)
        one = left.pop(first)
        kept = set(output).union(*(letters for _, letters in left))
        product = _multiply(_sum_unneeded(*one, kept | set(right[1])), _sum_unneeded(*right, kept | set(one[1])), kept)
        left = [*left, product] if path else [product, *left]
    tensor, letters = _sum_unneeded(*left[0], set(output))
    return tensor.permute([letters.index(letter) for letter in output])


def _choose_path(terms: Sequence[str], output: str, operands: Sequence[Tensor]) -> list[int] | None:
    """Return the path that eager takes at the traced sizes, by opt_einsum; None for two operands, or where it is not installed."""
    chooser = torch.backends.opt_einsum.get_opt_einsum()
    if len(operands) <= 2 or chooser is None:
        return None
    sizes = [[size.node.hint if isinstance(size, torch.SymInt) else size for size in operand.shape] for operand in operands]
    if any(size is None for shape in sizes for size in shape):  # sizes that data decide
        return None
    strategy = torch.backends.opt_einsum.strategy or "auto"
    path, _ = chooser.contract_path(f"{','.join(terms)}->{output}", *sizes, shapes=True, optimize=strategy)
    return list(itertools.chain.from_iterable(path))


def _take_diagonals(tensor: Tensor, letters: str) -> tuple[Tensor, str]:
    """Take the diagonal of dims with the same letter."""
    for letter in dict.fromkeys(letters):
        while letters.count(letter) > 1:
            first, second = letters.index(letter), letters.rindex(letter)
            tensor = torch.diagonal(tensor, 0, first, second)  # the diagonal is the last dim
            letters = letters[:first] + letters[first + 1 : second] + letters[second + 1 :] + letter
    return tensor, letters


def _sum_unneeded(tensor: Tensor, letters: str, kept: set[str]) -> tuple[Tensor, str]:
    """Sum the dims that no other operand and not the result needs."""
    dims = [position for position, letter in enumerate(letters) if letter not in kept]
    if not dims:
        return tensor, letters
    return tensor.sum(dims, dtype=tensor.dtype), "".join(letter for letter in letters if letter in kept)


def _multiply(one: tuple[Tensor, str], other: tuple[Tensor, str], kept: set[str]) -> tuple[Tensor, str]:
    """Multiply two operands, and sum their common dims that are not needed further.

    This is one batched matrix product (batch, rows, sum) x (batch, sum, columns).
    """
    (left, first), (right, second) = one, other
    shared = [letter for letter in first if letter in second]
    left, right = _broadcast(left, first, right, second, shared)
    batch, summed = [letter for letter in shared if letter in kept], [letter for letter in shared if letter not in kept]
    rows, columns = [letter for letter in first if letter not in second], [letter for letter in second if letter not in first]
    names = "".join((*batch, *rows, *columns))
    left = left.permute([first.index(letter) for letter in (*batch, *rows, *summed)])
    right = right.permute([second.index(letter) for letter in (*batch, *summed, *columns)])
    if not summed:
        apart = left.reshape([*left.shape, *(1 for _ in columns)])
        return apart * right.reshape([*right.shape[: len(batch)], *(1 for _ in rows), *right.shape[len(batch) :]]), names
    sizes = [*left.shape[: len(batch) + len(rows)], *right.shape[len(batch) + len(summed) :]]
    left = left.flatten(len(batch) + len(rows)) if len(summed) > 1 else left
    right = right.flatten(len(batch), len(batch) + len(summed) - 1) if len(summed) > 1 else right
    groups = (len(batch), len(rows), 1), (len(batch), 1, len(columns))
    found = torch.bmm(_merge_groups(left, groups[0]), _merge_groups(right, groups[1]))
    return found.reshape(sizes), names


def _merge_groups(tensor: Tensor, groups: tuple[int, ...]) -> Tensor:
    """Merge three groups of dims into three dims. An empty group becomes a dim of size 1."""
    shape, start = [], 0
    for count in groups:
        size = 1
        for dim in tensor.shape[start : start + count]:
            size = size * dim
        shape.append(size)
        start += count
    return tensor.reshape(shape)


def _broadcast(left: Tensor, first: str, right: Tensor, second: str, shared: list[str]) -> tuple[Tensor, Tensor]:
    """Expand dims of size 1 to the other operand's size."""
    sizes, others = dict(zip(first, left.shape, strict=True)), dict(zip(second, right.shape, strict=True))
    for letter in shared:
        if _is_one(sizes[letter]):
            sizes[letter] = others[letter]
        elif _is_one(others[letter]):
            others[letter] = sizes[letter]
    return left.expand([sizes[letter] for letter in first]), right.expand([others[letter] for letter in second])
