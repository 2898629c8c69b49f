"""Patches that are active while torch traces a model: sizes stay symbolic, and needless guards and computations are skipped."""
