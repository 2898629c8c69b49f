"""Rewrite the messages of a failed export, which name torch's sources and symbols, in the author's words."""

from __future__ import annotations

import re

from lowering.sizes.spelling import spell_condition
from lowering.symbols.conditions.relations import is_true_where_tried, read_condition_in_words
from lowering.symbols.schema import Fix
from lowering.symbols.tracing.exporting import NAME, Export

SOURCE = re.compile(r"L\['\w+'\](?:\[[^\]]*\]|\.(?!size\()\w+)*\.size\(\)\[\d+\]|L\['\w+'\](?!\[|\.)")
UNSATISFIED = re.compile(
    r"^Not all values of (?P<names>.*?) in the specified range (?P<range>.*?) satisfy the generated guard (?P<guard>.*)$")
_SPECIALIZED = re.compile(r"^solving the guards generated for (?P<dim>.*?) resulted in a specialized value of (?P<value>\d+)$")
_MARKED = re.compile(r"^You marked (?P<dim>.*?) as dynamic but your code specialized it to be a constant \((?P<value>\d+)\)")
_SINGLE = re.compile(r"^(?P<value>\d+) <= (?P<dim>\w+) and (?P=dim) <= (?P=value)$")
ONLY = re.compile(r"the code takes (?P<dim>\S+) = (?P<value>\d+) only")
_FIXED = re.compile(r"^- Received user-specified .*?, but (?:tracing inferred a static shape of|export 0/1 specialized due to hint of) "
                    r"(?P<value>\d+) for dimension inputs(?P<keys>.*)\.shape\[(?P<dim>\d+)\]\.$", re.MULTILINE)
_WORDS = (("The values of ", ""), (" must always be equal", " must be equal"),
          (" must always be related to the values of ", " must follow "),
          (" by ", " as "))
_UNEQUAL = (
    re.compile(r"size of tensor a \((?P<left>.*?)\) must match the size of tensor b \((?P<right>.*?)\) "
               r"at non-singleton dimension (?P<dim>\d+)"),
    re.compile(r"Expected (?P<left>.*?) in dimension (?P<dim>\d+) but got (?P<right>.*?) for tensor number \d+"),
)
_EXPLAINED = (
    (re.compile(r"unhashable type: .*SymInt"),
     "the code uses a size as a key of a dict or set, which the trace cannot look up: compare the size instead"),
    (re.compile(r"_apply\(\): Couldn't swap (\S+?)\.\w+"),
     r"forward converts \1 to a dtype or device: convert the module before it is lowered"),
    (re.compile(r"found a fake tensor in the exported program constant's list"),
     "forward changes a weight or keeps a tensor so that torch.export cannot trace it, as by `.data`: write to a buffer in place"),
    (re.compile(r"^aten\.(allclose|equal)\.default$"),
     r"torch.\1 is a Python bool, which data decide: keep a tensor, as (x == y).all() or torch.isclose(x, y).all()"),
    (re.compile(r"nested_tensor_from_jagged|NestedTensor|NestedInt"),
     "torch.export traces no NestedTensor: pass its values and its offsets or lengths as tensors"),
    (re.compile(r"\.numpy\(\) is not supported for tensor subclasses"),
     "forward converts a tensor to numpy, which cannot be traced: use torch's functions"),
)


def explain(message: str) -> str:
    """Explain a message of torch to the author, with the change to make; empty for unknown messages."""
    return next((match.expand(said) for pattern, said in _EXPLAINED if (match := pattern.search(message))), "")


def name_sources(text: str, export: Export) -> str:
    """Replace torch's sources, such as `L['x'].size()[0]`, with the symbols of their dims."""
    def word(match: re.Match[str]) -> str:
        place = export.place(match[0])
        dim = next((dim for dim in export.declared if place == (dim.argument, dim.position)), None)
        if dim is None:
            return match[0]
        meaning = dim.id if dim.dim is None else str(dim.dim)
        return meaning if dim.dim is None or meaning.isidentifier() else f"({meaning})"

    return SOURCE.sub(word, text)


def list_fixed(message: str) -> list[str]:
    """Return the dims with a hint (as in `auto`) of which a message says that tracing fixed them, in the words for dims without."""
    return [f"You marked L{found['keys']}.size()[{found['dim']}] as dynamic but your code specialized it to be a constant "
            f"({found['value']})"
            for found in _FIXED.finditer(message)]


def translate(text: str, export: Export) -> str:
    """Rewrite one of torch's violations in the author's words."""
    said = read_sources(text, export)
    if match := UNSATISFIED.match(said):
        if single := _SINGLE.match(match["guard"]):
            return f"the code takes {single['dim']} = {single['value']} only"
        condition = read_condition_in_words(match["guard"], export)
        is_true = condition is not None and is_true_where_tried(condition, export)
        only = "torch.export cannot prove for {}" if is_true else "not all of {} satisfy"
        return f"the code needs {_tidy(match['guard'])}, which {only.format(match['range'])}"
    if match := _SPECIALIZED.match(said) or _MARKED.match(said):
        return f"the code takes {match['dim']} = {match['value']} only"
    for torchs, ours in _WORDS:
        said = said.replace(torchs, ours)
    return said


def read_sources(text: str, export: Export) -> str:
    """Return a violation with the symbols of dims for torch's sources, `n` where that gives `n = n`."""
    return re.sub(r"\b(\w+) = \1\b", r"\1", name_sources(text.removesuffix("."), export))


def _tidy(guard: str) -> str:
    """Write a guard such as `((-1) + m) != 1` as Python code."""
    try:
        return spell_condition(guard)
    except ValueError:
        return guard


def find_unequal(message: str, export: Export) -> tuple[tuple[str, ...], tuple[Fix, ...]] | None:
    """Return which two sizes must be equal, and the symbol to declare for both. Return None for any other message."""
    match = next((match for pattern in _UNEQUAL if (match := pattern.search(message))), None)
    if match is None or not NAME.search(f"{match['left']} {match['right']}"):
        return None
    left, right = (export.translate(re.sub(r": hint = \d+", "", match[side])) for side in ("left", "right"))
    said = (f"{left} and {right} must be equal at dim {match['dim']}",)
    for name, spec in ((right, left), (left, right)):
        if name in export.model.symbols:
            return said, (Fix(name, spec),)
    return said, ()
