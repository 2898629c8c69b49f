"""EXPORTED -> TORCHSCRIPT: the graph that is built from FX, op by op, its text, and the deployable module."""
