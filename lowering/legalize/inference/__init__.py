"""Facts that patterns query about a value: its dims, its numbers if they are known, and its affine map of indices."""
