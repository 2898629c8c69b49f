"""Rewrites of the graph of an exported program, without a retrace."""
