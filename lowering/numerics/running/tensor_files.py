"""Tensors of any dtype in safetensors files. Complex numbers that the format lacks are written as pairs of real ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lowering import files

# dtypes that the format lacks, by what is written in their place: pairs of real numbers.
_PAIRS = {"complex128": torch.float64, "complex32": torch.float16}


def write(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write `tensors` by name; a complex one that the format cannot hold has another last dim, of real and imaginary part."""
    pairs = {name: _name_dtype(value) for name, value in tensors.items() if _name_dtype(value) in _PAIRS}
    plain = {name: torch.view_as_real(value.resolve_conj()) if name in pairs else value for name, value in tensors.items()}
    contiguous = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in plain.items()}
    save_file(contiguous, path, metadata=pairs or None)


def read(path: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """Load the tensors whose names begin with `prefix`, in the dtypes that they were written from. Raises OSError for a link or a pipe."""
    found = {}
    files.check_regular(path)
    with safe_open(path, framework="pt") as file:
        pairs = file.metadata() or {}
        for name in file.keys():  # noqa: SIM118 - not a mapping
            if name.startswith(prefix):
                value = file.get_tensor(name)  # mapped, at a place where an op on complex numbers may crash
                found[name] = torch.view_as_complex(value.clone()) if name in pairs else value
    return found


def _name_dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
