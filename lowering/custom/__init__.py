"""Ops registered with TORCH_LIBRARY (from C++ or Python): their libraries, their calls at each level, and their execution by XLA."""
