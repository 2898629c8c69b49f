"""The symbol log: the history of every dynamic dim, from the model's code line to the MHLO dim.

A `policy` makes `attempts` to export a model. `tracing` records torch's events during an attempt, `conditions` decides the conditions that
it put on sizes, `failures` explains why it failed, and `log` builds the SymbolRecord (symbols.json) from all that. `levels` adds the place
of each dim at the lower levels, and `views` formats pages. Modules that only read records (`levels`, `views`, `schema`) do not import
torch.
"""

from lowering.symbols import levels, views
from lowering.symbols.schema import SymbolRecord

__all__ = ["SymbolRecord", "levels", "views"]
