"""MLIR for all that use it: the two builds and their texts, source lines, files of text, and joined modules."""
