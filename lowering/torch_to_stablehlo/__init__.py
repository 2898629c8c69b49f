"""Lower torch ops to StableHLO, one rule per op, where torch-mlir has no lowering with dynamic dims."""

from lowering.torch_to_stablehlo import complex_numbers as complex_numbers
from lowering.torch_to_stablehlo import convolution as convolution
from lowering.torch_to_stablehlo import elementwise as elementwise
from lowering.torch_to_stablehlo import indexing as indexing
from lowering.torch_to_stablehlo import linear as linear
from lowering.torch_to_stablehlo import numbers as numbers
from lowering.torch_to_stablehlo import random as random
from lowering.torch_to_stablehlo import scattering as scattering
from lowering.torch_to_stablehlo import slicing as slicing
from lowering.torch_to_stablehlo import sorting as sorting
from lowering.torch_to_stablehlo import updating as updating
from lowering.torch_to_stablehlo.rewriting import RULES as RULES
from lowering.torch_to_stablehlo.rewriting import lower as lower

# Ops that torch-mlir would decompose into a form that has no lowering.
WHOLE = ("aten.normal_functional", "aten.select_scatter", "aten.slice_scatter", "aten.index.Tensor", "aten.index_put")
