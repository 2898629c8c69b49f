"""The results of ops that fake tensors keep: those of costly ops that the model calls, inside the blocks that ask for them."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from lowering.fx.tracing import fake_results


@pytest.fixture
def tensor():
    """A fake tensor of symbolic size [n, 8]."""
    mode = FakeTensorMode(shape_env=ShapeEnv())
    real = torch.ones(3, 8)
    torch._dynamo.mark_dynamic(real, 0)
    return mode.from_tensor(real)


def count_hits(call):
    """Return how many results a second call finds, and whether it has the sizes and strides of the first."""
    first, before = call(), FakeTensorMode.cache_hits
    second = call()
    return FakeTensorMode.cache_hits - before, (first.shape, first.stride()) == (second.shape, second.stride())


@pytest.mark.parametrize(("call", "hits"), [
    (lambda x: torch.nn.functional.relu(x), 1),
    (lambda x: x.view(-1, 2, 4), 1),
    (lambda x: torch.nn.functional.layer_norm(x, [8]), 1),  # and none of the ops that compute it
    (lambda x: x + 1, 0),
])  # fmt: skip
def test_only_costly_ops_are_kept(tensor, call, hits):
    with fake_results.skip_cache(), fake_results.keep_costly(), tensor.fake_mode:
        assert count_hits(lambda: call(tensor)) == (hits, True)


def test_nothing_is_kept_outside(tensor):
    with fake_results.skip_cache(), tensor.fake_mode:
        assert count_hits(lambda: torch.nn.functional.relu(tensor)) == (0, True)
