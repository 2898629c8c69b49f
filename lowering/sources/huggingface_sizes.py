"""Small sizes for configs of transformers: each config, and each config inside it, gets those that it knows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lowering.sources import huggingface

Tree = dict[str, Any]

# Equal sizes have equal values, as a key may be an alias of another.
DEPTH: Mapping[str, int] = dict.fromkeys(
    ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_decoder_layers", "encoder_layers", "decoder_layers", "depth"), 2
)
FRAMES = ("num_frames", "frames_per_clip")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_HIDDEN = ("hidden_size", "embedding_size", "d_model", "n_embd", "dim", "word_embed_proj_dim")
SMALL: Mapping[str, Any] = {
    **dict.fromkeys(_HIDDEN, 128),
    **DEPTH,
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_head", "n_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "ffn_dim", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim"), 256),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 512),
    **dict.fromkeys(EXPERTS, 4),
    "vocab_size": 1024, "num_key_value_heads": 2, "head_dim": 32, "d_kv": 32, "moe_intermediate_size": 64, "num_experts_per_tok": 2,
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 32),
    "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "rotary_dim": 16, "num_queries": 8,
    "default_language": "en_XX",
    **dict.fromkeys(("image_size", "crop_size"), 64), **dict.fromkeys(FRAMES, 8),
    "patch_size": 16, "use_cache": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
# The keys that may shrink whatever the other sizes are.
_FREE: Mapping[str, Any] = {key: SMALL[key] for key in (
    "vocab_size", "use_cache", "pad_token_id", "bos_token_id", "eos_token_id", "num_experts_per_tok", "n_group", "topk_group",
    "num_queries", "default_language", *EXPERTS, *DEPTH)}  # fmt: skip
_WIDTH = re.compile(r"hidden|embed|embd|intermediate|inner|model|ffn|mlp|_dims?$|^dim|rank|channel|filters|width|proj|groups|d_ff|d_kv")
_OTHER = re.compile(r"num_|^n_(?!embd|inner|filters)|token|kernel|patch|image|position|layers|stride|vocab|in_chan|max_|_id$|heads|ratio")
_INDICES = re.compile(r"(_ids|_indexes|_indices|_layers|_blocks|_idx|_index)$")
_STAGES = ("depths", "blocks_per_stage", "stage_num_blocks", "num_blocks", "stage_numb_of_layers")
FEWEST = 2  # layers of a stack
_ALL = 1000  # copies: no layer is left out
_KINDS = 6  # most layers of a stack that has more kinds of them


def filter_known(config: Any, wanted: Mapping[str, Any]) -> Tree:
    """Return the part of `wanted` whose keys a transformers config class has. Nested configs are filtered the same way."""
    keys = huggingface.list_known_keys(config)
    inner = {name: filter_known(part, wanted) for name, part in config.sub_configs.items()
             if name in keys and part.__name__ != "AutoConfig"}  # fmt: skip
    return {key: value for key, value in wanted.items() if key in keys} | {name: part for name, part in inner.items() if part}


def propose_sizes(config: Any) -> Iterator[Tree]:
    """Iterate over keys of a config class that make its model small, the smallest first.

    No rule keeps the relations between the sizes of every architecture. The first keys have fixed values. The next ones divide all widths
    of the default config by one number, which keeps sums, multiples and equal widths.
    """
    fixed = (SMALL, {**SMALL, "num_key_value_heads": SMALL["num_attention_heads"]})
    default = _make_default(config)
    if default is None:
        yield from (filter_known(config, wanted) for wanted in fixed)
        return
    yield _shrink(default, lambda _: fixed[0], 1, 1)
    yield _shrink(default, lambda _: fixed[1], 1, 1)
    yield _shrink(default, lambda part: {**fixed[1], **_keep_head_size(part)}, 1, 1)
    yield _shrink(default, lambda _: fixed[1], 1, 2)
    for factor in (16, 8, 4):
        yield _shrink(default, lambda _: _FREE, factor, 2)
        yield _shrink(default, lambda _: SMALL, factor, 2)
    yield _shrink(default, lambda _: {key: value for key, value in _FREE.items() if key not in DEPTH}, 16, _ALL)


def _keep_head_size(config: Any) -> Tree:
    """Return the widths of a model of the default size of heads, which rotations and scales may depend on."""
    heads = SMALL["num_attention_heads"]
    size = _read_int(config, "head_dim") or _read_int(config, "hidden_size") // (_read_int(config, "num_attention_heads") or heads)
    return {**dict.fromkeys(_HIDDEN, heads * size), "head_dim": size} if size else {}


def _read_int(config: Any, key: str) -> int:
    try:
        value = getattr(config, key, None)
    except Exception:  # noqa: BLE001 - a config may refuse a key that differs between its layers
        return 0
    return value if isinstance(value, int) else 0


def has_experts(config: Any) -> bool:
    """Return whether a config class, or a config inside its default, counts experts."""
    default = _make_default(config)
    parts = [] if default is None else [type(part) for part in vars(default).values() if hasattr(part, "sub_configs")]
    return bool(huggingface.list_known_keys(config) & set(EXPERTS)) or any(map(has_experts, parts))


def _make_default(config: Any) -> Any:
    try:
        return config()
    except Exception:  # noqa: BLE001 - a config may have keys without a default
        return None


def _shrink(config: Any, choose: Callable[[Any], Mapping[str, Any]], factor: int, copies: int) -> Tree:
    """Return small values of the keys of a config, and of the configs inside it.

    choose: gives the values that a config gets of the keys it knows. factor: divides the other widths. copies: layers of each kind
        (tied weights need a second one).
    """
    keys = {key for key in huggingface.list_known_keys(type(config)) if not key.startswith("_")}
    found: Tree = {} if factor == 1 else {key: narrow for key, value in vars(config).items()
                                          if key in keys and (narrow := _narrow(key, value, factor)) is not None}  # fmt: skip
    words = SMALL["vocab_size"]
    found |= {key: words for key, value in vars(config).items()
              if "vocab" in key and key in keys and isinstance(value, int) and value > words}  # fmt: skip
    found |= {key: _repeat(value, vars(config).get(key)) for key, value in choose(config).items() if key in keys}
    found |= {key: value for key, value in _shorten(config, copies).items() if key in keys}
    for name, part in vars(config).items():
        if name in keys and hasattr(part, "sub_configs") and (inner := _shrink(part, choose, factor, copies)):
            declared = config.sub_configs.get(name)
            is_named = declared is not None and declared is type(part)  # else the type of the config is a key too
            found[name] = ({} if is_named else {"model_type": part.model_type}) | _list_settings(part) | inner
    return found


def _repeat(value: Any, default: Any) -> Any:
    """Return a value for each item of a default that is a list, such as a number of heads for each stage."""
    return [value] * len(default) if isinstance(default, list | tuple) and isinstance(value, int) else value


def _list_settings(part: Any) -> Tree:
    """Return the keys that an outer config sets in its own inner one, and would not set in one that it is given."""
    usual = _make_default(type(part))
    found = {key: value for key, value in vars(part).items()
             if not key.startswith("_") and usual is not None and _is_plain(value) and vars(usual).get(key) != value}  # fmt: skip
    returned = getattr(part, "out_indices", None)
    if returned is not None and returned != getattr(usual, "out_indices", None):
        found["out_indices"] = list(returned)
    return found


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str) or (isinstance(value, list | tuple) and all(map(_is_plain, value)))


def _narrow(key: str, value: Any, factor: int) -> Any:
    """Return a width, or a list of widths, divided by `factor`; None if the key is no width, or a width has no such factor."""
    if not _WIDTH.search(key) or _OTHER.search(key):
        return None
    if isinstance(value, list | tuple):
        parts = [_narrow(key, part, factor) for part in value]
        return parts if parts and None not in parts else None
    is_divisible = isinstance(value, int) and not isinstance(value, bool) and value % factor == 0 and value > factor
    return value // factor if is_divisible else None


def _shorten(config: Any, copies: int) -> Tree:
    """Return the numbers of layers, and the lists of a config that depend on it, such that layers of each kind are left."""
    stages = {key: [min(count, FEWEST) for count in value] for key, value in vars(config).items() if key in _STAGES and _is_ints(value)}
    if copies == _ALL:
        return {}
    counts = {key: count for key, count in vars(config).items() if key in DEPTH and isinstance(count, int) and count > FEWEST}
    if len(set(counts.values())) != 1:
        return stages
    (count,) = set(counts.values())
    lists = {key: value for key, value in vars(config).items() if isinstance(value, list | tuple)}
    listed = {key: value for key, value in lists.items() if len(value) == count}
    returned = getattr(config, "out_indices", None) or ()  # of a backbone
    kept = _choose_layers([*zip(*listed.values(), strict=True)], max(FEWEST, min(len(returned), count)), copies)
    indices = {key: sorted({layer * len(kept) // count for layer in value}) for key, value in lists.items()
               if _INDICES.search(key) and key not in listed and _is_ints(value) and value and max(value) >= len(kept) and min(value) >= 0}
    if returned and max(returned) > len(kept):
        indices["out_indices"] = [*range(len(kept) - len(returned) + 1, len(kept) + 1)]  # 0 is the stem
    return {**stages, **dict.fromkeys(counts, len(kept)), **{key: [value[layer] for layer in kept] for key, value in listed.items()},
            **indices}  # fmt: skip


def _choose_layers(kinds: list[Any], least: int, copies: int) -> list[int]:
    """Return the first `copies` layers of each kind, and at least as many as `least`. kinds: of each layer; empty if they are alike."""
    seen = [kinds[:layer].count(kind) for layer, kind in enumerate(kinds)]
    kept = [layer for layer, before in enumerate(seen) if before < copies][: _KINDS * copies]
    more = [layer for layer in range(max(len(kinds), least)) if layer not in kept]
    return sorted(kept + more[: max(0, least - len(kept))])


def _is_ints(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, int) and not isinstance(item, bool) for item in value)
