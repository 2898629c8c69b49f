"""Comparison with eager: points and values to compare at, consumers that run a level, and the verdict on each result."""
