"""Torch ops that are lowered to StableHLO here, one rule an op: those that torch-mlir does not lower with dynamic dims."""

from lowering.direct import complex_numbers as complex_numbers
from lowering.direct import convolution as convolution
from lowering.direct import elementwise as elementwise
from lowering.direct import linear as linear
from lowering.direct import random as random
from lowering.direct import scattering as scattering
from lowering.direct import sorting as sorting
from lowering.direct.rewriting import RULES as RULES
from lowering.direct.rewriting import lower as lower

# What torch-mlir would decompose on the way, into a form that has no lowering.
WHOLE = ("aten.normal_functional",)
