"""MODEL -> EXPORTED: capture the module with its dims dynamic, then make the program functional and decompose it."""
