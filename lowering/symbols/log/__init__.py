"""Construction of the SymbolRecord from a captured export: the verdict on each requested dim, the symbol table, and the warnings."""
