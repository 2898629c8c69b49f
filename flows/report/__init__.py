"""The report of a run: rows, causes, axes, exports for other tools, and the pages."""
