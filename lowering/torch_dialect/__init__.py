"""TORCHSCRIPT -> TORCH: the import of a graph into MLIR, and torch-mlir's backend contract."""
