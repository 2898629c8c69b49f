"""Models of the transformers library, built from a config with random weights. Nothing is downloaded."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch._subclasses.fake_tensor import is_fake

from lowering.eager import caches
from lowering.errors import LoadError, Problem, suggest
from lowering.model import Model
from lowering.sources import images, recurrences, twins, weights

Attention = Literal["sdpa", "eager"]
Experts = Literal["eager", "batched_mm", "grouped_mm"]
Cache = Literal["dynamic", "static"]
LENGTH = 256  # default: tokens of a prompt and its continuation
LARGEST_BATCH = 16  # sequences, and images


def build(
    config: str, architecture: str, kwargs: Mapping[str, Any] | None = None, attention: Attention | None = None, dtype: str = "float32",
    experts: Experts | None = None,
) -> torch.nn.Module:  # fmt: skip
    """Build `architecture(config(**kwargs))` in eval mode, with random weights from torch's current seed.

    No weight is constant (see `weights.spread`). Under a FakeTensorMode the weights are fake. Raises LoadError for each unknown class or
    config key, with the closest match.

    attention: `sdpa` uses torch's fused op, `eager` the matmul-softmax form; None: the architecture's default (sdpa if supported).
    experts: implementation of a mixture. `batched_mm` gathers the weights of each token's experts, `eager` loops over the experts that the
        data selects (which cannot be exported), `grouped_mm` sorts the tokens by expert; None: the architecture's default.
    """
    from transformers.exporters.exporter_dynamo import register_cache_pytrees_for_model
    from transformers.initialization import no_init_weights

    config_class = _find_class(config, "config", "Config")
    model_class = _find_class(architecture, "architecture", config.removesuffix("Config"))
    given = dict(kwargs or {})
    problems = _report_unknown_keys(config_class, model_class, given)
    expected = getattr(model_class, "config_class", None)
    if expected is not None and not issubclass(config_class, expected):
        problems.append(Problem("architecture", f"'{architecture}' takes a {expected.__name__}, not a {config}"))
    if problems:
        raise LoadError(problems)
    choices = {"attn_implementation": attention, "experts_implementation": experts}
    chosen = {name: choice for name, choice in choices.items() if choice is not None}

    def create() -> Any:
        return model_class._from_config(config_class(**given), dtype=getattr(torch, dtype), **chosen)

    with no_init_weights():
        module = create()
    module.tie_weights()  # part of the skipped initialisation
    # Fake and meta tensors have no values to initialise.
    if not is_fake(torch.empty(0)) and not any(parameter.is_meta for parameter in module.parameters()):
        module = module if _initialise(module) else create()
        weights.spread(module)
    module.eval()
    register_cache_pytrees_for_model(module)  # a model may return a cache that it makes itself
    return cast("torch.nn.Module", module)


def generation(
    config: str, architecture: str, kwargs: Mapping[str, Any] | None = None, attention: Attention | None = None, dtype: str = "float32",
    experts: Experts | None = None, cache: Cache = "dynamic", max_length: int | None = None, image_size: Sequence[int] | None = None,
) -> torch.nn.Module:  # fmt: skip
    """Build a model as `build` does, to be lowered as the programs that generate text.

    The model's file needs no inputs: its entries follow from `generate` (see `huggingface_entries.derive`).

    cache: `dynamic` is a cache that grows, `static` one of `max_length` tokens that is written in place. Layers with a sliding window keep
        all tokens in either, and the masks apply the window.
    max_length: tokens of a prompt and its continuation; None: 256, or the number of the model's positions if that is smaller.
    image_size: height and width in pixels, for an encoder whose images may have any size (see `images.fix_size`); None: such an encoder
        is no entry.
    """
    module = build(config, architecture, kwargs, attention, dtype, experts)
    for part in (module.config, module.config.get_text_config(decoder=True)):
        part.use_cache = True  # False in some configs, whose programs would return no cache
    limits = SizeLimits.read(module, cache, max_length)
    if limits.has_windows and not limits.is_static:
        module.register_forward_pre_hook(_give_wide_cache, with_kwargs=True)
    _return_image_layers(module)
    if image_size is not None:
        images.fix_size(module, image_size)
    recurrences.scan_in_exports(module)
    return module


def _return_image_layers(module: Any) -> None:
    """Let an encoder of images return every layer where the projector takes one of them by its number (`vision_feature_layer`)."""
    if hasattr(module.config, "vision_feature_layer"):
        vision = type(module.config.vision_config)
        for part in module.modules():
            if isinstance(getattr(part, "config", None), vision):
                part.config.output_hidden_states = True


def make_twin(model: Model) -> tuple[Model, dict[str, Any]]:
    """Return a small model with weights that verifies one without, and the changes to the `kwargs` of its factory (see `twins.make`)."""
    return twins.make(model, build, make_config)


@dataclass(frozen=True)
class SizeLimits:
    """The sizes that a generative model is lowered for.

    length: tokens of a prompt and its continuation. is_static: whether its caches have that length. has_windows: whether layers of its
    caches have sliding windows.
    """

    length: int
    is_static: bool
    has_windows: bool

    @staticmethod
    def read(module: Any, cache: Cache, max_length: int | None) -> SizeLimits:
        """Return the limits of a module. Raises LoadError if it has fewer positions than `max_length`."""
        config = module.config.get_text_config(decoder=True)
        positions = next((value for name in ("max_position_embeddings", "max_target_positions", "n_positions")
                          if isinstance(value := getattr(config, name, None), int)), None)
        if max_length is not None and positions is not None and max_length > positions:
            raise LoadError(Problem("max_length", f"is {max_length}, and the model has {positions} positions", "lower it"))
        length = max_length or min(LENGTH, positions or LENGTH)
        return SizeLimits(length, cache == "static", caches.has_windows(config))

    @property
    def largest(self) -> dict[str, int]:
        """The largest size of each symbol that the entries of a model may have."""
        return {"batch": LARGEST_BATCH, "seq": self.length, "past": self.length - 1, "source": self.length, "images": LARGEST_BATCH}


def make_wide_cache(module: Any, limits: SizeLimits, source: int = 0) -> Any:
    """Return an empty cache whose layers keep all tokens, for a model with sliding windows; None for others.

    source: the tokens that an encoder reads, for a static cache.
    """
    from transformers import DynamicCache, EncoderDecoderCache, StaticCache

    if not limits.has_windows:
        return None
    config = caches.widen(module.config.get_text_config(decoder=True))

    def make(length: int) -> Any:
        return StaticCache(config=config, max_cache_len=length) if limits.is_static else DynamicCache(config=config)

    return EncoderDecoderCache(make(limits.length), make(source)) if module.config.is_encoder_decoder else make(limits.length)


def _give_wide_cache(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if kwargs.get("past_key_values") is None and kwargs.get("use_cache") is not False:
        kwargs = {**kwargs, "past_key_values": make_wide_cache(module, SizeLimits.read(module, "dynamic", None))}
    return args, kwargs


def _initialise(module: Any) -> bool:
    """Initialise the weights of a module. Return whether the architecture's own initialiser set all of them.

    Runs once, after tying. The constructors would initialise most weights twice, and allocate separate memory for tied weights meanwhile.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.is_floating_point()]
    with torch.no_grad():
        for parameter in parameters:
            parameter.fill_(math.nan)
        module.init_weights()
        return not any(parameter.sum().isnan() for parameter in parameters)


def make_config(config: str, kwargs: Mapping[str, Any] | None) -> Any:
    """Return a config of transformers. Raises LoadError if there is no such class."""
    return _find_class(config, "config", "Config")(**(kwargs or {}))


def find_config_class(architecture: str) -> Any:
    """Return the config class of a transformers model class. Raises LoadError if there is no such class."""
    return _find_class(architecture, "architecture", architecture[:4]).config_class


def list_known_keys(config_class: Any) -> set[str]:
    """Return the keys that a config class reads: parameters of its constructor, their aliases, and settable properties."""
    known = set(inspect.signature(config_class).parameters) | set(config_class.attribute_map)
    properties = inspect.getmembers_static(config_class, lambda member: isinstance(member, property))
    return known | {name for name, member in properties if member.fset}


def _find_class(name: str, key: str, like: str) -> Any:
    import transformers

    found = getattr(transformers, name, None)
    if found is not None:
        return found
    raise LoadError(Problem(key, f"transformers {transformers.__version__} has no '{name}'",
                            suggest(name, [word for word in dir(transformers) if like in word] or dir(transformers))))


def _report_unknown_keys(config_class: Any, model_class: Any, given: Mapping[str, Any]) -> list[Problem]:
    """Return a problem for each unknown key: a config would store it as an attribute that nothing reads."""
    known = list_known_keys(config_class)
    if (code := _list_read_keys(model_class)) is None:
        return []
    read = known | code
    unknown = [key for key in given if key not in read and not key.endswith("_token_id")]  # generate() reads these
    return [Problem(f"kwargs.{key}", f"{config_class.__name__} has no such key", suggest(key, known)) for key in unknown]


def _list_read_keys(model_class: Any) -> set[str] | None:
    """Return the keys that the code of a model reads of its config although the config class does not declare them (`head_dim`).

    None if the file of the code is gone.
    """
    try:
        source = inspect.getsource(inspect.getmodule(model_class))  # type: ignore[arg-type]
    except OSError:
        return None
    return set(re.findall(r"""getattr\(\s*(?:self\.)?config,\s*["'](\w+)["']""", source))
