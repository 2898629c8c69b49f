"""Recurrent layers, scans, and reductions of segments."""
