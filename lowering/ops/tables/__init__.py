"""The tables of decompositions: for each op, by what it is replaced, and why."""
