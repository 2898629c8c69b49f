"""Measurements, one command each (`python -m benchmarks.NAME`); RESULTS.md has the figures."""
