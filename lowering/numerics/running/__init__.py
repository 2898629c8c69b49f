"""Programs of each level run by their consumers."""
