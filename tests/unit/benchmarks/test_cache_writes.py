"""Writes into a cache cost what they write: an index for each row at most, in programs and in the check over a run."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

import shapeline
from benchmarks import cache_writes
from lowering.ir import mlir
from lowering.signature import Argument, Result, Signature


class Contiguous(nn.Module):
    """Writes a step of all sequences at one place."""

    def forward(self, cache: torch.Tensor, new: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        cache.index_copy_(2, place, new)
        return cache.sum(2)


class Ragged(nn.Module):
    """Writes a step of each sequence at its own place, as speculative decoding and continuous batching do."""

    def forward(self, cache: torch.Tensor, new: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        cache[torch.arange(cache.shape[0])[:, None], :, place] = new.transpose(1, 2)
        return cache.sum(2)


@pytest.mark.parametrize(("module", "places"), [(Contiguous(), (1,)), (Ragged(), (3, 1))])
def test_a_cache_write_has_no_more_indices_than_rows(module: nn.Module, places: tuple[int, ...]) -> None:
    cache, new = torch.zeros(3, 2, 16, 4), torch.ones(3, 2, 1, 4)
    dims = {0: {0: "batch"}, 1: {0: "batch"}, 2: {0: "batch"} if len(places) > 1 else {}}
    lowered = shapeline.lower(module, (cache, new, torch.zeros(places, dtype=torch.int64)), dynamic_shapes=(dims[0], dims[1], dims[2]),
                              symbols={"batch": (1, 8)}, fills={"place": {"randint": [0, 16]}})
    found = cache_writes.count(lowered.mlir["mhlo"].module, lowered.signature)
    assert found.slices + found.scatters == 1 and found.ratio <= 1
    lowered.verify(2)


def test_an_index_for_each_element_is_found() -> None:
    module = mlir.parse("""
        func.func @main(%cache: tensor<8x4xf32>, %index: tensor<3x4x2xi64>, %new: tensor<3x4xf32>) -> tensor<8x4xf32> {
          %0 = "mhlo.scatter"(%cache, %index, %new) <{indices_are_sorted = false, scatter_dimension_numbers = #mhlo.scatter<
              inserted_window_dims = [0, 1], scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 2>, unique_indices = false}> ({
          ^bb0(%old: tensor<f32>, %value: tensor<f32>):
            mhlo.return %value : tensor<f32>
          }) : (tensor<8x4xf32>, tensor<3x4x2xi64>, tensor<3x4xf32>) -> tensor<8x4xf32>
          return %0 : tensor<8x4xf32>
        }""", mlir.create_hlo_context())
    arguments = (Argument("input", "cache", "float32", (8, 4)), Argument("input", "index", "int64", (3, 4, 2)),
                 Argument("input", "new", "float32", (3, 4)))
    signature = Signature(arguments, (Result("input_mutation", "cache", "float32", (8, 4), state="cache"),))
    assert cache_writes.count(module, signature) == cache_writes.Writes(0, 1, Fraction(4))
