"""Read and write `.pt2` archives as torch.export.save does, but without copying weights.

The serialized graph can be read back on its own.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import torch
from torch._export.serde import schema, serialize
from torch.export import ExportedProgram
from torch.export.pt2_archive import _package, constants
from torch.export.pt2_archive._package_weights import TensorProperties, Weights, get_complete_tensor, group_weights

from lowering.fx.serialization import serialize_program

NAME = "model"  # torch's name for the only program of an archive
_WRITTEN = (".data/", "version")  # records that torch's writer adds itself
_GRAPH = constants.MODELS_FILENAME_FORMAT.format(NAME)


def save(program: ExportedProgram, path: Path) -> None:
    """Write `program` to `path` in the format that torch.export.load reads.

    Raises torch's own errors if the program cannot be serialized, and OSError or RuntimeError if the file cannot be written.
    """
    saved = serialize_program(program)
    with _package.PT2ArchiveWriter(str(path)) as writer:
        _package._package_payload_config(writer, _write_weights(program, writer), constants.WEIGHTS_CONFIG_FILENAME_FORMAT.format(NAME))
        held = _package._package_constants(NAME, program, writer)
        _package._package_payload_config(writer, held, constants.CONSTANTS_CONFIG_FILENAME_FORMAT.format(NAME))
        writer.write_bytes(_GRAPH, saved.exported_program)
        writer.write_bytes(constants.SAMPLE_INPUTS_FILENAME_FORMAT.format(NAME), saved.example_inputs)


def read_graph(path: Path) -> bytes:
    """Return the serialized graph in an archive, equal to the serialization of its program.

    Raises OSError if the file cannot be read, and ValueError if it is not an archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.partition("/")[2] == _GRAPH)
            return archive.read(name)
    except (zipfile.BadZipFile, ValueError) as error:
        raise ValueError(f"{path} is not an archive of an exported program: {error}") from error


def replace_graph(source: Path, target: Path, graph: bytes) -> None:
    """Write a copy of an archive with another serialized graph of the same weights. Raises OSError or RuntimeError."""
    reader, writer = torch._C.PyTorchFileReader(str(source)), torch._C.PyTorchFileWriter(str(target))
    for name in reader.get_all_records():
        if not name.startswith(_WRITTEN):
            record = graph if name == _GRAPH else reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()


def _write_weights(program: ExportedProgram, writer: _package.PT2ArchiveWriter) -> schema.PayloadConfig:
    """Write each storage once, directly from memory, and return the config of the weights.

    torch.export.save copies each storage first, so that the largest embedding is in memory twice.
    """
    state = program.state_dict
    if any(_package._should_use_pickle(tensor) or tensor.device.type != "cpu" for tensor in state.values()):
        return _package._package_state_dict(NAME, program, writer)
    config: dict[str, schema.PayloadMeta] = {}
    held = {NAME: Weights({name: (tensor, TensorProperties(tensor)) for name, tensor in state.items()})}
    for number, group in enumerate(group_weights(held) if state else ()):
        file = f"{constants.WEIGHT_FILENAME_PREFIX}{number}"
        storage = get_complete_tensor(group, held).untyped_storage()
        record = storage if storage.nbytes() else b""
        name = os.path.join(constants.WEIGHTS_DIR, file)  # noqa: PTH118 - as torch names it
        writer.archive_file.write_record(name, record, storage.nbytes())
        for _, name in group:
            tensor, _ = held[NAME].get_weight(name)
            is_parameter = isinstance(tensor, torch.nn.Parameter)
            config[name] = schema.PayloadMeta(path_name=file, is_param=is_parameter, use_pickle=False,
                                              tensor_meta=serialize.serialize_tensor_meta(tensor))
    return schema.PayloadConfig(config=config)
