"""Torch ops that are lowered to StableHLO here, one rule an op: those that torch-mlir does not lower with dynamic dims."""

from lowering.direct import convolution as convolution
from lowering.direct import elementwise as elementwise
from lowering.direct import scattering as scattering
from lowering.direct import sorting as sorting
from lowering.direct.rewriting import RULES as RULES
from lowering.direct.rewriting import lower as lower
