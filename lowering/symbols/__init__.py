"""The symbol log: what became of every dynamic dim, from the model's code line to the MHLO dim.

`capture` listens while torch exports, `record` makes the SymbolRecord (symbols.json) of it, `levels.follow` adds where each dim stands
at the levels below, and `views` turns it into pages.
"""

from lowering.symbols import levels, views
from lowering.symbols.capture import Log, Settings, capture
from lowering.symbols.recording import record
from lowering.symbols.schema import SymbolRecord

__all__ = ["Log", "Settings", "SymbolRecord", "capture", "levels", "record", "views"]
