"""Hand-written forms of fused ops, as torch.export captures them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Node

from lowering.composites.matches import (
    Match,
    Walk,
    aten,
    get_rank,
    is_close,
    is_tensor,
    is_used_inside,
    iterate_orders,
    split_product,
    split_sum,
)

_VIEWS = (aten.reshape.default, aten.view.default)


def rms_norm(root: Node) -> Match | None:
    """Match `weight * (x * rsqrt(mean(x ** 2, -1) + eps))`, with casts to float32 and back, and the same without a weight."""
    if root.target is not aten.mul.Tensor:
        return None
    for weight, normalized in iterate_orders((root.args[0], root.args[1])):
        walk = Walk(root)
        if is_tensor(weight) and get_rank(weight) == 1:
            found = _match_normalization(walk, walk.strip_casts(normalized))
            if found is not None and _has_width(weight, found[0]):
                return walk.match({"input": found[0], "weight": weight}, {"normalized_dims": 1, "eps": found[1]})
    if any(_is_scaled(user) for user in root.users):
        return None  # the product with the weight is the root
    walk = Walk(root)
    found = _match_normalization(walk, root)
    return walk.match({"input": found[0]}, {"normalized_dims": 1, "eps": found[1]}) if found is not None else None


def _has_width(weight: Node, normalized: Node) -> bool:
    return _are_equal(weight.meta["val"].shape[0], normalized.meta["val"].shape[-1])


def _is_scaled(user: Node) -> bool:
    """Return whether a product, or its cast, is multiplied by a weight."""
    if user.target is aten.mul.Tensor:
        return any(is_tensor(argument) and get_rank(argument) == 1 for argument in user.args)
    return user.target is aten.to.dtype and any(_is_scaled(further) for further in user.users)


def _match_normalization(walk: Walk, node: Any) -> tuple[Node, float] | None:
    """Return x and eps of `x * rsqrt(mean(x ** 2, -1) + eps)`."""
    product = walk.enter(node, aten.mul.Tensor)
    for value, inverse in iterate_orders((product[0], product[1]) if product else None):
        root = walk.enter(inverse, aten.rsqrt.default)
        for mean, eps in iterate_orders(split_sum(walk, root[0]) if root else None):
            if not isinstance(eps, int | float) or not isinstance(mean, Node) or mean.target is not aten.mean.dim:
                continue
            if list(mean.args[1]) not in ([-1], [get_rank(mean.args[0]) - 1]) or mean.args[2:] != (True,):  # type: ignore[arg-type]
                continue
            walk.inner.add(mean)
            squared = _match_square(walk, mean.args[0])
            if squared is not None and squared is value:
                return walk.strip_casts(value) if is_used_inside(value, walk.inner | {walk.root}) else value, float(eps)
    return None


def _match_square(walk: Walk, node: Any) -> Any:
    """Return x of `x ** 2` or `x * x`."""
    power = walk.enter(node, aten.pow.Tensor_Scalar)
    if power is not None:
        return power[0] if power[1] == 2 else None
    if (alone := walk.enter(node, aten.square.default)) is not None:
        return alone[0]
    product = walk.enter(node, aten.mul.Tensor)
    return product[0] if product is not None and product[0] is product[1] else None


def rope(root: Node) -> Match | None:
    """Match `x * cos + rotate_half(x) * sin`, where rotate_half is `cat((-x[..., d/2:], x[..., :d/2]), -1)`."""
    walk = Walk(root)
    for plain, rotated in iterate_orders(split_sum(walk, root)):
        first, second = walk.enter(plain, aten.mul.Tensor), walk.enter(rotated, aten.mul.Tensor)
        for x, cos in iterate_orders((first[0], first[1]) if first else None):
            for half, sin in iterate_orders((second[0], second[1]) if second else None):
                if is_tensor(cos) and is_tensor(sin) and _rotate_half(walk, half) is x:
                    return walk.match({"input": x, "cos": cos, "sin": sin}, {"form": "rotate_half"})
    return None


def _rotate_half(walk: Walk, node: Any) -> Node | None:
    joined = walk.enter(node, aten.cat.default)
    if joined is None or len(joined[0]) != 2 or (joined[1] if len(joined) > 1 else 0) not in (-1, get_rank(node) - 1):
        return None
    negated = walk.enter(joined[0][0], aten.neg.default)
    if negated is None:
        return None
    upper, lower = walk.enter(negated[0], aten.slice.Tensor), walk.enter(joined[0][1], aten.slice.Tensor)
    if upper is None or lower is None or upper[0] is not lower[0] or not is_tensor(upper[0]):
        return None
    width, last = upper[0].meta["val"].shape[-1], get_rank(upper[0]) - 1
    is_halved = isinstance(width, int) and upper[1] % (last + 1) == last == lower[1] % (last + 1)
    return upper[0] if is_halved and lower[2:4] == (0, width // 2) and upper[2] == width // 2 and upper[3] >= width else None


def gelu(root: Node) -> Match | None:
    """Match `x * 0.5 * (1 + erf(x / sqrt(2)))`, and the form with tanh."""
    walk = Walk(root)
    number, tensors = split_product(walk, root)
    if not is_close(number, 0.5) or len(tensors) != 2:
        return None
    for x, gate in iterate_orders((tensors[0], tensors[1])):
        for one, bent in iterate_orders(split_sum(walk, gate)):
            if one != 1:
                continue
            for op, approximate in ((aten.erf.default, "none"), (aten.tanh.default, "tanh")):
                inside = walk.enter(bent, op)
                if inside is not None and _gelu_argument(walk, inside[0], x, approximate):
                    return walk.match({"self": x}, {"approximate": approximate})
    return None


def _gelu_argument(walk: Walk, node: Any, x: Node, approximate: str) -> bool:
    scale, tensors = split_product(walk, node)
    if approximate == "none":
        return is_close(scale, math.sqrt(0.5)) and tensors == [x]
    if not is_close(scale, math.sqrt(2 / math.pi)) or len(tensors) != 1:
        return False
    for plain, cubed in iterate_orders(split_sum(walk, tensors[0])):
        if plain is not x or not isinstance(cubed, Node):
            continue
        factor, powers = split_product(walk, cubed)
        power = walk.enter(powers[0], aten.pow.Tensor_Scalar) if len(powers) == 1 else None
        if is_close(factor, 0.044715) and (powers == [x, x, x] or (power is not None and power[0] is x and power[1] == 3)):
            return True
    return False


def silu(root: Node) -> Match | None:
    """Match `x * sigmoid(x)`."""
    walk = Walk(root)
    product = walk.enter(root, aten.mul.Tensor)
    for x, gate in iterate_orders((product[0], product[1]) if product else None):
        bent = walk.enter(gate, aten.sigmoid.default)
        if bent is not None and bent[0] is x:
            return walk.match({"self": x}, {})
    return None


def attention(root: Node) -> Match | None:
    """Match `softmax(query @ key.transpose(-2, -1) * scale + mask, -1) @ value`."""
    if root.target is not aten.matmul.default or not all(map(is_tensor, root.args)) or get_rank(root) != 4:
        return None
    walk = Walk(root)
    weights = _strip(walk, root.args[0])
    softmax = walk.enter(weights, aten.softmax.int)
    if softmax is None or softmax[1] not in (-1, 3):
        return None
    mask, scores = None, walk.strip_casts(softmax[0])
    for found, other in iterate_orders(split_sum(walk, scores)):
        if is_tensor(found) and is_tensor(other) and split_product(Walk(root), found)[1][0].target is aten.matmul.default:
            scores, mask = found, other
            break
    scale, tensors = split_product(walk, scores)
    product = walk.enter(tensors[0], aten.matmul.default) if len(tensors) == 1 else None
    if product is None:
        return None
    turned = walk.enter(product[1], aten.transpose.int)
    if turned is None or {turned[1] % 4, turned[2] % 4} != {2, 3}:
        return None
    operands, attributes = _match_grouped(walk, {"query": product[0], "key": turned[0], "value": root.args[1]})
    attributes = {"dropout_p": 0.0, "is_causal": False, "scale": scale, **attributes}
    return walk.match({**operands, **({"attn_mask": mask} if mask is not None else {})}, attributes)


def _strip(walk: Walk, node: Any) -> Any:
    """Pass casts and what dropout leaves at inference."""
    before = None
    while node is not before:
        before = node
        node = walk.strip_casts(node)
        dropped = walk.enter(node, aten.dropout.default) if isinstance(node, Node) and node.args[1:] and node.args[-1] is False else None
        node = dropped[0] if dropped is not None else node
    return node


def ungroup(match: Match) -> Match:
    """Return a match of attention whose key and value are those before their heads are repeated, if they are."""
    walk = Walk(match.root)
    walk.inner |= match.inner
    operands, attributes = _match_grouped(walk, match.operands)
    return walk.match(operands, {**match.attributes, **attributes}) or match if attributes else match


def _match_grouped(walk: Walk, operands: Any) -> tuple[dict[str, Node], dict[str, Any]]:
    tried = Walk(walk.root)
    key, value = (_match_repeated(tried, operands[name]) for name in ("key", "value"))
    if key is None or value is None:
        return dict(operands), {"enable_gqa": False}
    walk.inner |= tried.inner
    return {**operands, "key": key, "value": value}, {"enable_gqa": True}


def _match_repeated(walk: Walk, node: Any) -> Node | None:
    """Return x of `x[:, :, None].expand(batch, heads, groups, seq, width).reshape(batch, heads * groups, seq, width)`."""
    merged = walk.enter(node, *_VIEWS)
    spread = walk.enter(merged[0], aten.expand.default) if merged else None
    lifted = walk.enter(spread[0], aten.unsqueeze.default) if spread else None
    if lifted is None or lifted[1] != 2 or not is_tensor(lifted[0]) or get_rank(lifted[0]) != 4 or get_rank(node) != 4:
        return None
    before, after = lifted[0].meta["val"].shape, node.meta["val"].shape
    is_repeated = isinstance(before[1], int) and isinstance(after[1], int) and after[1] % before[1] == 0
    return (lifted[0] if is_repeated and _are_equal(before[0], after[0]) and _are_equal(before[2], after[2]) and before[3] == after[3]
            else None)


def _are_equal(left: int | torch.SymInt, right: int | torch.SymInt) -> bool:
    """Compare two sizes without a guard."""
    return str(left) == str(right)
