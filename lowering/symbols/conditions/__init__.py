"""The conditions on sizes that a trace assumes, defers or decides: whether they hold over the declared ranges, and what depends on them."""
