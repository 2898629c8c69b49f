"""Encoders of images in models of images and text: their parts, the images that they take, and exports for images of one size."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from types import MethodType
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from lowering.errors import LoadError, Problem

# Entries of a model of images and text: the caller puts the projected images among the embeddings of the tokens.
ENCODER, EMBEDDING = "image_encoder", "embedding"
PROJECTORS = {"multi_modal_projector": (), "connector": (1,)}  # with the dims before those of the images that their models take
ATTENTION = "flash_attention_in_images"  # encoders give the bounds of windows to functions with `flash` in their name only
_BY_PATCH = ("position_ids", "interp_indices", "interp_weights")  # with a row for each patch
GRID = "grid_thw"  # the argument of an encoder that has the frames, height and width of each image in patches


def list_parts(module: Any) -> dict[str, torch.nn.Module]:
    """Return the parts that make embeddings of images and tokens, by entry; none for models of text.

    Only parts that take images of one size are among them: of others, only the embedding.
    """
    vision = getattr(module.config, "vision_config", None)
    if vision is None:
        return {}
    encoder, embedding = module.get_encoder(modality="image"), {EMBEDDING: module.get_input_embeddings()}
    if hasattr(encoder, "grid"):
        return {ENCODER: encoder, **embedding}
    found = {name: part for name in PROJECTORS for root in (module.base_model, module) if (part := getattr(root, name, None)) is not None}
    if not isinstance(getattr(vision, "image_size", None), int) or encoder is module or not found:
        return embedding
    return {ENCODER: encoder, **found, **embedding}


def fix_size(module: Any, size: Sequence[int]) -> None:
    """Let the encoder of images of `module` take images of one size, whose number is a dim.

    size: height and width in pixels. The encoder is one whose argument `grid_thw` has the size of each image: it takes the patches of all
    images, [images * patches, features], without that argument. Raises LoadError if the encoder is another, or cannot take the size.
    """
    vision, encoder = getattr(module.config, "vision_config", None), module.get_encoder(modality="image")
    if vision is None or encoder is module or GRID not in inspect.signature(encoder.forward).parameters:
        fix = "remove it" if vision is None else "remove it, and set vision_config.image_size in kwargs"
        raise LoadError(Problem("image_size", f"{type(module).__name__} has no encoder of images with the argument {GRID}", fix))
    if hasattr(encoder, "deepstack_visual_indexes"):
        cause = "layers of the language model add features of the encoder (deepstack), which a prompt of embeddings does not take"
        raise LoadError(Problem("image_size", cause, "remove it; declare an entry of model.language_model with deepstack_visual_embeds"))
    unit = vision.patch_size * getattr(vision, "spatial_merge_size", 1)
    if len(size) != 2 or any(side < unit or side % unit for side in size):
        raise LoadError(Problem("image_size", f"is {list(size)}, and a side is a multiple of {unit} pixels (patch_size times "
                                "spatial_merge_size)", f"give height and width, [{unit * 2}, {unit * 2}] for example"))
    encoder.grid = _Grid.trace(encoder, size[0] // vision.patch_size, size[1] // vision.patch_size)
    encoder.forward = MethodType(_encode, encoder)


def record(module: Any, images: int, tokens: torch.Tensor) -> dict[str, Mapping[str, Any]]:
    """Return the arguments of the parts that make embeddings of `images` images and of `tokens`, by entry."""
    parts = list_parts(module)
    if not parts:
        return {}
    embedded: dict[str, Mapping[str, Any]] = {EMBEDDING: {next(iter(inspect.signature(parts[EMBEDDING].forward).parameters)): tokens}}
    if ENCODER not in parts:
        return embedded
    vision = module.config.vision_config
    with ExitStack() as stack, torch.no_grad():
        calls = {name: stack.enter_context(capture_calls(part)) for name, part in parts.items() if name != EMBEDDING}
        if (grid := getattr(parts[ENCODER], "grid", None)) is not None:
            parts[ENCODER](torch.randn(images * grid.patches, _count_features(vision)))
        else:
            ahead = next(dims for name, dims in PROJECTORS.items() if name in parts)
            size = (getattr(vision, "num_channels", 3), vision.image_size, vision.image_size)
            module.get_image_features(pixel_values=torch.randn(*ahead, images, *size))
    return {**{name: made[0] for name, made in calls.items()}, **embedded}


@contextmanager
def capture_calls(module: torch.nn.Module) -> Iterator[list[dict[str, Any]]]:
    """Collect the arguments of each call of `module` in the block, by name, as they were before the call."""
    signature = inspect.signature(module.forward)
    calls: list[dict[str, Any]] = []

    def collect(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = signature.bind(*args, **kwargs).arguments
        rest = [name for name, parameter in signature.parameters.items() if parameter.kind is parameter.VAR_KEYWORD and name in bound]
        further = bound.pop(rest[0]) if rest else {}
        calls.append(deepcopy({**bound, **further}))

    handle = module.register_forward_pre_hook(collect, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def _count_features(vision: Any) -> int:
    """Return the number of elements of a patch, as processors of images flatten it."""
    channels = next((value for name in ("in_channels", "in_chans", "num_channels") if (value := getattr(vision, name, None))), 3)
    return int(channels * getattr(vision, "temporal_patch_size", 1) * vision.patch_size**2)


@dataclass(frozen=True)
class _Grid:
    """The size of all images of an encoder that takes their patches as rows. eager: its forward, whose Python loops run over `grid_thw`.

    given: what the encoder computes of the row of one image in `grid_thw`.
    """

    eager: Any
    sides: tuple[int, int]
    given: Mapping[str, Any]

    @property
    def patches(self) -> int:
        return self.sides[0] * self.sides[1]

    @staticmethod
    def trace(encoder: Any, height: int, width: int) -> _Grid:
        """Return the grid of images of height * width patches. Raises LoadError if the encoder computes something else of it."""
        from transformers import AttentionInterface
        from transformers.exporters.utils import precompute_export_inputs

        AttentionInterface.register(ATTENTION, _attend)
        with unset_fake_temporarily():  # the module may be built without weights, and these are values
            given: dict[str, Any] = {GRID: torch.tensor([(1, height, width)])}
            precompute_export_inputs(encoder, given)
            # Attention splits the patches by the values of these, which an array has in an export too.
            given |= {name: value.numpy() for name, value in given.items() if name.startswith("cu_")}
        found = {name: value for name, value in given.items() if value is not None and name != GRID}
        if unknown := found.keys() - {"cu_seqlens", "cu_window_seqlens", "window_index", *_BY_PATCH}:
            cause = f"{type(encoder).__name__} computes {', '.join(sorted(unknown))} of the sizes of images, which no dim is known for"
            raise LoadError(Problem("image_size", cause, "remove it"))
        return _Grid(encoder.forward, (height, width), found)

    def compute(self, images: Any) -> dict[str, Any]:
        """Return what the encoder computes of `grid_thw` for a number of images. The lengths for attention are those in one image."""
        made = {}
        for name, value in self.given.items():
            if name == "window_index":
                offsets = torch.arange(images) * value.shape[0]
                made[name] = (offsets[:, None] + value).flatten()
            else:
                made[name] = value.repeat(images, *[1] * (value.dim() - 1)) if name in _BY_PATCH else value
        return made


def _encode(encoder: Any, hidden_states: torch.Tensor, grid_thw: torch.Tensor | None = None, **kwargs: Any) -> Any:
    """Replaces `forward` of an encoder, for images of one size.

    Eager mode runs the encoder's own loops. In an export, attention has a batch of images, whose number is a dim.
    """
    grid: _Grid = encoder.grid
    images = hidden_states.shape[0] // grid.patches
    if grid_thw is not None or not torch.compiler.is_exporting():
        rows = torch.tensor([(1, *grid.sides)] * images) if grid_thw is None else grid_thw
        return grid.eager(hidden_states, grid_thw=rows, **kwargs)
    before = encoder.config._attn_implementation
    encoder.config._attn_implementation = ATTENTION  # set_attn_implementation() would look for a kernel of this name
    try:
        return grid.eager(hidden_states, grid_thw=None, **grid.compute(images), **kwargs)
    finally:
        encoder.config._attn_implementation = before


def _attend(_: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scaling: float, cu_seq_lens_q: Any,
            **_options: Any) -> tuple[torch.Tensor, None]:
    """Attend within the windows of each image, all windows of one length at once. Has the signature of transformers' attention functions.

    query, key, value: [1, heads, images * patches, dim]. cu_seq_lens_q: the bounds of the windows in one image, an array. Returns
    [1, images * patches, heads, dim].
    """
    starts: dict[int, list[int]] = {}  # of the windows, by length
    for start, end in pairwise(cu_seq_lens_q.tolist()):
        starts.setdefault(end - start, []).append(start)
    heads, patches, size = query.shape[1], int(cu_seq_lens_q[-1]), query.shape[3]
    whole = [tensor.reshape(heads, -1, patches, size).transpose(0, 1) for tensor in (query, key, value)]
    found, order = [], []
    for length, firsts in starts.items():
        rows = [start + index for start in firsts for index in range(length)]
        order += rows
        parts = whole if len(starts) == 1 else [tensor.index_select(2, torch.tensor(rows)) for tensor in whole]
        windows = [tensor.reshape(-1, heads, len(firsts), length, size).transpose(1, 2).flatten(0, 1) for tensor in parts]
        attended = torch.nn.functional.scaled_dot_product_attention(*windows, scale=scaling)
        found.append(attended.reshape(-1, len(firsts), heads, length, size).transpose(2, 3).flatten(1, 2))
    joined = found[0] if len(found) == 1 else torch.cat(found, 1).index_select(1, torch.tensor(order).argsort())
    return joined.reshape(1, -1, heads, size), None
