"""The exported program as an FX graph: its dims, its archive, its gradients, and what a user's transformations may do to it."""
