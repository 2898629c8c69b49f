"""Lower PyTorch modules with dynamic shapes to MHLO, from Python:

    import shapeline
    lowered = shapeline.lower(module, (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch", max=64)}})
    print(lowered.mlir["mhlo"])

The command `shapeline` (package `flows`) lowers whole suites, declared in YAML. Both run the same stages (package `lowering`).
"""

from lowering import versions

if (_problem := versions.find_problem()) is not None:
    raise ImportError(f"{_problem.cause}: {_problem.fix}")

from lowering.errors import ConfigError, LoadError, Mismatch, Problem, Refused, ShapelineError, StageFailed, Unsupported
from shapeline.api import lower
from shapeline.joined import Joined, join
from shapeline.lowered import Lowered, Text

__all__ = ["ConfigError", "Joined", "LoadError", "Lowered", "Mismatch", "Problem", "Refused", "ShapelineError", "StageFailed", "Text",
           "Unsupported", "join", "lower"]
