"""Quantization of a module by torchao, as its model declares it: weights by `quantize_`, or activations too by PT2E."""

from __future__ import annotations

import fnmatch
import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open

from lowering import paths, recipe, types
from lowering.eager import inputs, packed_weights
from lowering.eager.arguments import assemble
from lowering.errors import LoadError, Problem
from lowering.model import Model, Quantization

INSTALL = "pip install 'shapeline[quantization]'"
_EAGER_LAYERS = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")
_PT2E = ("pt2e_static", "pt2e_dynamic")  # schemes that quantize a graph, whose modules have other names
_SEED = 4099  # calibration draws other inputs than verify


def quantize(module: torch.nn.Module, model: Model) -> torch.nn.Module:
    """Return `module`, quantized in place or as a graph. Raises LoadError without torchao, and where nothing is quantized."""
    chosen = model.quantization
    assert chosen is not None
    place = f"models.{model.name}.quantization"
    if importlib.util.find_spec("torchao") is None:
        raise LoadError(Problem(place, "needs torchao, which is not installed", INSTALL))
    logging.getLogger("torchao").setLevel(logging.ERROR)  # it reports each GPU kernel that is not there
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if chosen.scheme in _PT2E:
            return _quantize_graph(module, model, chosen)
        _quantize_weights(module, chosen, place)
    return module


def list_float_weights(module: torch.nn.Module) -> list[str]:
    """List the weights of two or more dims that are still floats of two or more bytes."""
    return [name for name, weight in module.named_parameters() if weight.dim() > 1 and type(weight) is torch.nn.Parameter
            and weight.is_floating_point() and weight.element_size() > 1 and not name.endswith(packed_weights.SCALES)]


def list_unmatched(module: torch.nn.Module, chosen: Quantization) -> list[str]:
    """List the patterns of `skip` that match the name of no module. Quantized modules keep their names."""
    names = [name for name, _ in module.named_modules()]
    return [pattern for pattern in chosen.skip if not fnmatch.filter(names, pattern)] if chosen.scheme not in _PT2E else []


def list_opaque(module: torch.nn.Module) -> list[Problem]:
    """Report weights that no level can represent: those of fewer than 8 bits, and the packed objects of torch's eager quantization."""
    narrow = [Problem(f"weight '{name}'", f"is {weight.dtype}, which no level can hold", types.UNPACK)
              for name, weight in [*module.named_parameters(), *module.named_buffers()]
              if type(weight) in (torch.Tensor, torch.nn.Parameter) and types.dtype_name(weight.dtype) not in types.DTYPES]
    packed = [Problem(f"{name or 'the module'} ({type(part).__name__})", "holds its weight in an object packed for a kernel of torch",
                      "start from the float module, with quantization: {scheme: pt2e_dynamic} or pt2e_static")
              for name, part in module.named_modules()
              if type(part).__module__.startswith(_EAGER_LAYERS) and not type(part).__name__.endswith("PackedParams")]
    return narrow + packed


def _quantize_weights(module: torch.nn.Module, chosen: Quantization, place: str) -> None:
    from torchao.core.config import AOBaseConfig
    from torchao.quantization import quantize_

    config = recipe.build(chosen.config) if chosen.config is not None else _CONFIGS[str(chosen.scheme)](chosen)
    if not isinstance(config, AOBaseConfig):
        fix = "for example {_target_: torchao.quantization.Int8WeightOnlyConfig}"
        raise LoadError(Problem(f"{place}.config", f"made a {type(config).__name__}, which is no config of torchao", fix))
    quantized: list[str] = []

    def is_chosen(part: torch.nn.Module, name: str) -> bool:
        weight = getattr(part, "weight", None)
        is_kind = any(kind.__name__ in chosen.modules for kind in type(part).__mro__)
        if not is_kind or not isinstance(weight, torch.Tensor) or any(fnmatch.fnmatch(name, skip) for skip in chosen.skip):
            return False
        if chosen.scheme == "int4_weight_only" and (weight.shape[1] % chosen.group_size or getattr(part, "groups", 1) != 1):
            return False
        quantized.append(name)
        return True

    quantize_(module, config, is_chosen)
    if not quantized:
        raise LoadError(Problem(place, f"no module of {', '.join(chosen.modules)} could be quantized", "see modules, skip and group_size"))
    packed_weights.pack(module)


def _make_int4(chosen: Quantization) -> Any:
    from torchao.quantization import IntxWeightOnlyConfig, PerGroup

    return IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(chosen.group_size), scale_dtype=torch.bfloat16)


def _make_named(name: str) -> Callable[[Quantization], Any]:
    def make(_: Quantization) -> Any:
        import torchao.quantization

        return getattr(torchao.quantization, name)(set_inductor_config=False)

    return make


_CONFIGS: Mapping[str, Callable[[Quantization], Any]] = {
    "int8_weight_only": _make_named("Int8WeightOnlyConfig"),
    "int8_dynamic": _make_named("Int8DynamicActivationInt8WeightConfig"),
    "float8_weight_only": _make_named("Float8WeightOnlyConfig"),
    "int4_weight_only": _make_int4,
}


def _quantize_graph(module: torch.nn.Module, model: Model, chosen: Quantization) -> torch.nn.Module:
    """Return the graph of `module` with quantized activations and weights, calibrated on the declared fills or on a file."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    example = inputs.make(model, model.examples(), model.seed)
    arguments = assemble(model, module, example)
    dims = torch.export.ShapesCollection()
    for name, declared in model.leaves.items():
        dynamic = {position: torch.export.Dim.AUTO for position, dim in enumerate(declared.dims()) if not isinstance(dim, int)}
        if dynamic and not declared.is_number:
            dims[example[name]] = dynamic
    captured = torch.export.export(module, (), arguments, dynamic_shapes=dims.dynamic_shapes(module, (), arguments), strict=False)
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_dynamic=chosen.scheme == "pt2e_dynamic"))
    prepared = prepare_pt2e(captured.module(check_guards=False), quantizer)
    for given in _list_calibration(model, chosen, example):
        prepared(**assemble(model, module, given))
    converted = cast("torch.fx.GraphModule", convert_pt2e(prepared))
    _drop_unused(converted)
    for part in converted.modules():
        part.training = False
    if not any("dequantize" in str(node.target) for node in converted.graph.nodes):
        raise LoadError(Problem(f"models.{model.name}.quantization", "no op could be quantized by PT2E"))
    return converted


def _list_calibration(model: Model, chosen: Quantization, example: Mapping[str, torch.Tensor]) -> Iterator[Mapping[str, torch.Tensor]]:
    """Yield the inputs to calibrate on. Raises LoadError for a file that cannot be read or lacks an input."""
    if chosen.calibration is None:
        for index in range(chosen.samples):
            yield inputs.make(model, model.examples(), model.seed + _SEED + index)
        return
    place, path = f"models.{model.name}.quantization.calibration", paths.expand(chosen.calibration)
    try:
        with safe_open(path, framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise LoadError(Problem(place, f"{path} cannot be read as safetensors: {error}")) from error
    sets: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in stored.items():
        number, _, leaf = name.rpartition("/")
        sets.setdefault(number, {})[leaf] = tensor
    for number, given in sets.items():
        wrong = [Problem(place, f"set '{number}' has no tensor '{number}/{name}'" if number else f"there is no tensor '{name}'",
                         f"the inputs are {', '.join(example)}, optionally as NUMBER/NAME for several sets")
                 for name in example if name not in given]
        wrong += [Problem(place, f"'{name}' is {given[name].dtype} of rank {given[name].dim()}",
                          f"declared is {value.dtype} of rank {value.dim()}")
                  for name, value in example.items()
                  if name in given and (given[name].dtype, given[name].dim()) != (value.dtype, value.dim())]
        if wrong:
            raise LoadError(wrong)
        yield {name: given[name] for name in example}


def _drop_unused(module: torch.fx.GraphModule) -> None:
    """Remove the float weights that quantized copies replaced, and zero points of weights that are all zero."""
    for node in list(module.graph.nodes):
        if str(node.target) == "quantized_decomposed.dequantize_per_channel.default":
            points = node.args[2]
            if isinstance(points, torch.fx.Node) and points.op == "get_attr" and not bool(_get(module, str(points.target)).any()):
                node.update_arg(2, None)
    module.graph.eliminate_dead_code()
    module.recompile()
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name in [*dict(module.named_parameters(remove_duplicate=False)), *dict(module.named_buffers(remove_duplicate=False))]:
        if name not in used:
            owner, _, leaf = name.rpartition(".")
            delattr(module.get_submodule(owner), leaf)


def _get(module: torch.nn.Module, name: str) -> torch.Tensor:
    owner, _, leaf = name.rpartition(".")
    return cast("torch.Tensor", getattr(module.get_submodule(owner), leaf))
