"""Shapeline as a format of transformers' exporters: `from shapeline.exporters import MhloConfig, MhloExporter`.

    exported = MhloExporter().export_for_generation(model, inputs, MhloConfig(dynamic=True))
    exported.components["decode"].program.mlir["mhlo"]

Importing the module registers the format `mhlo`, so that `AutoHfExporter` and `ExportedModel.from_pretrained` find it too.
"""

from __future__ import annotations

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
from lowering.numerics import runner
from lowering.numerics.artifact import Artifact
from lowering.numerics.xla import Xla
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
        values = runner.arguments(self._signature, self._weights, given)
        results: Sequence[torch.Tensor] = self._xla.run(self._text, values, runner.find_known_ints(self._signature, values))
        leaves = complete(self._signature, results, {**self._buffers, **given})
        return torch.utils._pytree.tree_unflatten(leaves, self.out_spec)


register_backend(MhloExporter, MhloRunner)
