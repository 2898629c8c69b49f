"""Shapeline as a format of transformers' exporters: `from shapeline.exporters import MhloConfig, MhloExporter`.

    exported = MhloExporter().export_for_generation(model, inputs, MhloConfig(dynamic=True))
    exported.components["decode"].program.mlir["mhlo"]

Importing the module registers the format `mhlo`, so that `AutoHfExporter` and `ExportedModel.from_pretrained` find it too.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers.exporters.auto import register_backend
from transformers.exporters.base import ExportedModel
from transformers.exporters.configs import DynamoConfig
from transformers.exporters.exporter_dynamo import DynamoExporter
from transformers.exporters.metadata import ExportMetadata
from transformers.exporters.runners.base import ModelRunner
from transformers.exporters.utils import decompose_multimodal, is_multimodal

from lowering.errors import ConfigError, Problem
from lowering.numerics.delivery.artifact import Artifact
from lowering.numerics.running import runner
from lowering.numerics.running.bodies import find_known_ints
from lowering.numerics.running.xla import Xla
from lowering.signature import Signature
from lowering.sources import exported
from shapeline import declaration
from shapeline.api import lower
from shapeline.lowered import Lowered, clone_buffers, complete

FORMAT = "mhlo"


@dataclass
class MhloConfig(DynamoConfig):
    """The settings of an export (as in `DynamoConfig`), and the options of Shapeline's stages by stage.

    dynamic: all dims vary, from 2 on; `dynamic_shapes` with Dims gives other ranges.
    """

    export_format: str = FORMAT  # type: ignore[assignment]
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Saved:
    """A program read from a file. It is unpacked into a folder that is deleted with this object: its weights are mapped from there."""

    artifact: Artifact

    @staticmethod
    def load(path: Any) -> Saved:
        """Load a file that `MhloExporter.save_program` wrote. Raises InfraError as `Artifact.load` does."""
        folder = tempfile.mkdtemp(prefix="shapeline-")
        try:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
            saved = Saved(Artifact.load(Path(folder)))
        except BaseException:
            shutil.rmtree(folder)
            raise
        weakref.finalize(saved, shutil.rmtree, folder, ignore_errors=True)
        return saved


class MhloExporter(DynamoExporter):
    """Exports a model of transformers to MHLO. The program is a `Lowered`, with the IR of every level."""

    export_format = FORMAT  # type: ignore[assignment]
    config_class = MhloConfig
    program_suffix = ".mhlo.zip"

    def export_program(self, model: Any, sample_inputs: Any, config: Any) -> tuple[Any, ExportMetadata]:
        """Export one graph and lower it. Raises as `shapeline.lower` does."""
        program, metadata = super().export_program(model, sample_inputs, config)
        module, args, kwargs, dims, symbols = exported.take_apart(program)
        if not config.dynamic_shapes:
            dims, symbols = _bind_masks(dims, symbols, kwargs)
        module.config = getattr(model, "config", None)  # of which caches are built
        name = type(model).__name__
        return lower(module, args, kwargs, dims, symbols=symbols, stages=config.stages, name=name), metadata

    def export_for_generation(self, model: Any, sample_inputs: Any, config: Any, **options: Any) -> ExportedModel:
        """Export each program of a generative model (see `HfExporter.export_for_generation`).

        The encoder of another modality and its projector, which `generate` runs ahead of the prompt, are programs too.
        """
        found = super().export_for_generation(model, sample_inputs, config, **options)
        parts = decompose_multimodal(model, sample_inputs) if is_multimodal(model) else {}
        first = {name: part for name, part in parts.items() if name not in found.components}
        configs = config if isinstance(config, dict) else dict.fromkeys(first, config)
        ahead = {name: self._export_component(part, given, configs[name]) for name, (part, given) in first.items()}
        found.components = {**ahead, **found.components}
        return found

    @classmethod
    def save_program(cls, program: Any, path: Any) -> None:
        """Write the IR of every level, and what `shapeline exec` runs, as one file."""
        if not isinstance(program, Lowered):
            raise ConfigError(Problem(str(path), "the program was read from a file", "copy that file"))
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w") as archive:
            program.save(folder)
            for file in sorted(Path(folder).rglob("*")):
                archive.write(file, file.relative_to(folder))

    @classmethod
    def load_program(cls, path: Any) -> Saved:  # type: ignore[override]
        return Saved.load(path)


class MhloRunner(ModelRunner):
    """Runs a program by XLA on the CPU. Tensors that forward writes to are written; its buffers are carried from call to call."""

    def __init__(self, metadata: ExportMetadata, signature: Signature, weights: Mapping[str, torch.Tensor], text: str, owner: Any):
        super().__init__(metadata)
        self._owner = owner  # of the weights
        self._buffers = clone_buffers(signature, weights)
        self._weights = {**weights, **self._buffers}
        self._signature, self._text, self._xla = signature, text, Xla()
        self._xla.hold({name: value for name, value in weights.items() if name not in self._buffers})

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @classmethod
    def from_program(cls, program: Any, metadata: ExportMetadata, device: Any = None) -> MhloRunner:
        if device is not None and torch.device(device).type != "cpu":
            fix = "leave it out, or unpack the saved file and use `shapeline exec FOLDER --platform gpu`"
            raise ConfigError(Problem(f"device={device}", "this runner uses the CPU", fix))
        if isinstance(program, Saved):
            artifact = program.artifact
            return cls(metadata, artifact.signature, artifact.weights, artifact.program, program)
        return cls(metadata, program.signature, program.weights, str(program.mlir["mhlo"]), program)

    def __call__(self, share_inputs: bool = True, share_outputs: bool = False, **kwargs: Any) -> Any:
        given = dict(declaration.list_tensors({**self.metadata.in_constants, **kwargs}))
        values = runner.order_arguments(self._signature, self._weights, given)
        results: Sequence[torch.Tensor] = self._xla.run(self._text, values, find_known_ints(self._signature, values))
        leaves = complete(self._signature, results, {**self._buffers, **given})
        return torch.utils._pytree.tree_unflatten(leaves, self.out_spec)


def _bind_masks(dims: Mapping[str, Any], symbols: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return dims and symbols in which a mask [batch, tokens] has the batch of its tokens, and the length of the cache and the tokens.

    The models read a mask by index, and torch.export gives it sizes of its own: rows and columns that it lacks would be read as its last.
    """
    bound = dict(dims)
    for name, mask in given.items():
        prefix = name.removesuffix("attention_mask")
        tokens = next((key for key in (f"{prefix}input_ids", f"{prefix}inputs_embeds") if isinstance(given.get(key), torch.Tensor)), None)
        if prefix == name or tokens is None or not isinstance(mask, torch.Tensor) or mask.dim() != 2 or not dims.get(name):
            continue
        batch, length = given[tokens].shape[:2]
        of_tokens = dims.get(tokens) or {}
        sizes = {0: of_tokens.get(0) if mask.shape[0] == batch else dims[name].get(0), 1: dims[name].get(1)}
        if mask.shape[1] == length:
            sizes[1] = of_tokens.get(1)
        elif 1 not in of_tokens and (past := _find_dim(dims, given, mask.shape[1] - length)):
            sizes[1] = f"{past} + {length}"
        bound[name] = {position: size for position, size in sizes.items() if size is not None}
    used = set(re.findall(r"\w+", str(bound)))
    return bound, {name: symbol for name, symbol in symbols.items() if name in used}


def _find_dim(dims: Mapping[str, Any], given: Mapping[str, Any], size: int) -> str | None:
    """Return the dim of the tokens in a cache [batch, heads, tokens, width] of that many tokens; None if there is none."""
    specs = _list_specs(dims.get("past_key_values"))
    return next((spec[2] for spec, value in zip(specs, declaration.list_tensors({"cache": given.get("past_key_values")}), strict=False)
                 if spec and 2 in spec and value[1].dim() == 4 and value[1].shape[2] == size), None)


def _list_specs(tree: Any) -> list[Any]:
    """Return the dims of the leaves of a tree of dims, in order."""
    if isinstance(tree, list | tuple):
        return [spec for item in tree for spec in _list_specs(item)]
    if isinstance(tree, Mapping) and all(isinstance(key, str) for key in tree):
        return [spec for item in tree.values() for spec in _list_specs(item)]
    return [tree]


register_backend(MhloExporter, MhloRunner)
