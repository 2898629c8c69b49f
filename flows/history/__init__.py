"""Comparison across runs: changes, noise, first occurrences of a cause, tickets, bisection, and what is kept."""
