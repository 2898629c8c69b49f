"""The compiler: a ladder of levels from a PyTorch model to MHLO, as plain Python. docs/architecture.md lists the folders."""
