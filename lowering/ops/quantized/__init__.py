"""Quantized arithmetic in plain ops."""
