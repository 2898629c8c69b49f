"""From torch-mlir's mixture of StableHLO, shape, tensor and arith ops to pure StableHLO, simplified by what is known of the dims."""
