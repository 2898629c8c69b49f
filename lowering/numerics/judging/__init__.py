"""Whether rounding explains the difference of two results."""
