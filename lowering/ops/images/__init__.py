"""Convolution, pooling, padding and resizing of maps."""
