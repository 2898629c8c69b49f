"""Fused ops kept as composites: their forms in the graph, and the marks of their ends between export and StableHLO."""
