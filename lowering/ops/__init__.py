"""Decompositions of ATen ops that torch-mlir lowers not at all, with static dims only, or to other numbers than eager's."""
