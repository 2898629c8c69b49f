"""What holds while torch traces a model: sizes stay symbolic, and nothing is guarded or computed that no program needs."""
