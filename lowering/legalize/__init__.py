"""From torch-mlir's mixture of StableHLO, shape, tensor and arith ops to pure StableHLO, simplified by facts about the dims."""
