"""Functions of torch that would make sizes constants, composed of functions that keep them dynamic."""
