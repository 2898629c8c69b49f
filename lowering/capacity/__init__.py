"""Sizes that data decide: every such dim gets a capacity, known before the run, and a count, computed in the program."""
