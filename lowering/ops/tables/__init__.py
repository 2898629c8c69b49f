"""The tables of decompositions: for each op, its definition, and the reason for it."""
