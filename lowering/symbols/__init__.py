"""The symbol log: what became of every dynamic dim, from the model's code line to the MHLO dim.

`capture.capture` listens while torch exports, `recording.record` makes the SymbolRecord (symbols.json) of it, `levels` adds where each dim
stands at the levels below, and `views` turns it into pages. What reads records (`levels`, `views`, `schema`) does without torch.
"""

from lowering.symbols import levels, views
from lowering.symbols.schema import SymbolRecord

__all__ = ["SymbolRecord", "levels", "views"]
