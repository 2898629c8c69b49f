"""Sizes, values and conditions at which a program is compared."""
