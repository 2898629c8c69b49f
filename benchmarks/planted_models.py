"""Small models in which benchmarks.planted plants faults."""

from __future__ import annotations

import io

import torch
from torch import Tensor, nn
from torch.nn import functional

from lowering.model import Input, Model, Symbol
from lowering.sources import torchscript

WIDTH = 8


class Attention(nn.Module):
    """A block of masked self-attention, whose mask comes as an input."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> dict[str, Tensor]:
        normal = self.norm(x)
        scores = self.query(normal) @ self.key(normal).mT / WIDTH**0.5
        scores = scores + (1 - mask[:, None].float()) * -1e9
        return {"scores": scores, "attended": x + scores.softmax(-1) @ self.value(normal)}


class Causal(nn.Module):
    """Scores under a causal mask of the lowest float, and what attention makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        scores = self.query(x) @ self.key(x).mT
        places = torch.arange(x.shape[1])
        masked = torch.where(places[:, None] >= places, scores, torch.finfo(scores.dtype).min)
        attended = functional.scaled_dot_product_attention(x, x, x, places[:, None] >= places)
        return {"masked": masked, "weights": masked.softmax(-1), "attended": attended}


class Pictures(nn.Module):
    """Convolution, batch norm and pooling over images of any height and width."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding="same")

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = functional.gelu(self.norm(self.first(image)))
        padded = functional.pad(self.second(features), (1, 0, 0, 1), value=0.5)
        return {"features": padded, "pooled": functional.adaptive_avg_pool2d(padded, 1), "range": padded.var((-2, -1))}


class Index(nn.Module):
    """Lookup, scatter and slices by position."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(32, WIDTH)

    def forward(self, ids: Tensor, x: Tensor) -> dict[str, Tensor]:
        found = self.table(ids)
        summed = torch.zeros(32, WIDTH).index_add(0, ids, x)
        put = x.clone()
        put[ids % x.shape[0]] = 1.0
        return {"found": found.roll(1, 0), "summed": summed, "put": put, "last": x[:-1] - x[1:], "rest": torch.remainder(ids - 16, 5)}


class Sizes(nn.Module):
    """Sums that grow, rows of very different sizes, and results far apart."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        rows = torch.tensor([1e6, 1.0, 1e-4, 1e-6]).reshape(4, 1)
        parts = torch.cat([x * 1e6, x], 1)
        return {"rows": x[:, None] * rows, "parts": parts, "sums": (x + 1000).cumsum(1), "mixed": torch.where(x > 1, x * 1e6, x),
                "total": x.sum(1)}


class Training(nn.Module):
    """A small network whose loss is large."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(WIDTH, 16), nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        output = self.down(self.norm(self.up(x)).relu())
        return {"loss": output.square().sum() * 1e3 + output.softmax(-1).amax(), "output": output}


class Casts(nn.Module):
    """Work in bfloat16 and float16, and results in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.brain, self.short, self.full = nn.Linear(64, 64).bfloat16(), nn.Linear(64, 64).half(), nn.Linear(64, 64)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        brain, half = self.brain(x.bfloat16()), self.short(x.half())
        return {"brain": brain, "half": half, "wide": brain.float(), "full": self.full(x), "scaled": x.bfloat16() * 1e4,
                "near": half.tanh().float(), "summed": x.bfloat16().sum(-1), "double": x.double().exp()}


class Pair(nn.Module):
    """Two inputs of one length, one of twice of it, and multiples."""

    def forward(self, x: Tensor, y: Tensor, z: Tensor) -> dict[str, Tensor]:
        return {"sum": x + y, "both": z.reshape(-1, 2).sum(1) + x[:, 0], "fours": y.reshape(-1, 4, 4).sum(1)}


class Branches(nn.Module):
    """Takes a branch by its data, and loops as often as it has rows."""

    def forward(self, x: Tensor, flag: Tensor) -> dict[str, Tensor]:
        chosen = torch.cond(flag.sum() > 0, lambda value: value * 2, lambda value: value - 1, (x,))

        def step(count: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
            return count + 1, value * 0.5 + 1

        _, looped = torch.while_loop(lambda count, value: count < x.shape[0], step, (torch.zeros((), dtype=torch.int64), x))
        return {"chosen": chosen, "looped": looped}


class Wide(nn.Module):
    """Is too large to be run at its upper corner."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 + x.mean(1, keepdim=True)


class Fields(nn.Module):
    """Inputs that never vary as they are filled: token types of zeros, positions, masks of ones and of padding."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds, self.places = nn.Embedding(2, WIDTH), nn.Embedding(64, WIDTH)

    def forward(self, x: Tensor, kind: Tensor, place: Tensor, mask: Tensor, padding: Tensor) -> dict[str, Tensor]:
        kept = padding[..., None].float()
        pooled = (x * kept).sum(1) / kept.sum(1)
        last = x[torch.arange(x.shape[0]), padding.sum(1) - 1]
        return {"embedded": x + self.kinds(kind) + self.places(place), "masked": x.masked_fill(~mask[..., None], 0), "pooled": pooled,
                "last": last}


class Threes(nn.Module):
    """Takes rows in groups of three, which torch.export finds by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 3, 4).sum(1)


class Gated(nn.Module):
    """A layer that a fresh gate of 1e-6 hides, and another before a head of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.head = nn.Parameter(torch.full((WIDTH,), 1e-6)), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = functional.gelu(self.up(x))
        return {"gated": x + self.gate * hidden, "head": self.head(hidden)}


class Named(nn.Module):
    """Ops that are kept as composites."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.norm(x), approximate="tanh").softmax(-1)


class Cache(nn.Module):
    """Two states of one shape."""

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> dict[str, Tensor]:
        keys, values = keys + x, values * 0.5 + x
        return {"output": (keys * values).sum(-1), "keys": keys, "values": values}


class Counted(nn.Module):
    """Rows that data decide, padded to a capacity that not all data fit in."""

    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0.5]


class Ties(nn.Module):
    """Halves of integers, rounded."""

    def forward(self, n: Tensor) -> dict[str, Tensor]:
        rounded = torch.round(n.float() / 2)
        return {"rounded": rounded, "sum": rounded.sum(0, keepdim=True)}


class Undefined(nn.Module):
    """Has no number for any input."""

    def forward(self, x: Tensor) -> Tensor:
        return (-x.abs() - 1).log() * x


class Draws(nn.Module):
    """Random numbers of three distributions."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"dropped": functional.dropout(x.abs() + 1, 0.5, True), "normal": torch.randn_like(x), "uniform": torch.rand_like(x)}


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros_like(x[:, 0])
        for step in range(x.shape[1]):
            total = torch.tanh(self.layer(x[:, step]) + total)
        return total


def scripted() -> nn.Module:
    """Return the module as it is in a TorchScript file."""
    held = io.BytesIO()
    torch.jit.save(torch.jit.script(Scripted().eval()), held)
    held.seek(0)
    return torchscript.Interpreted(torch.jit.load(held))


def _float(*shape: int | str) -> Input:
    return Input("float32", shape)


def declare(factory: type[nn.Module], inputs: dict[str, Input], symbols: dict[str, Symbol], **settings: object) -> Model:
    """Declare a model by its class, whose name in lower case it has."""
    return Model(factory.__name__.lower(), {"_target_": f"{factory.__module__}.{factory.__name__}"}, inputs, symbols,
                 **settings)  # type: ignore[arg-type]


_BATCH, _LENGTH = Symbol(1, 16), Symbol(1, 64)
_STATE = Input("float32", ("n", 4), state=True)

# Options of the stage export, by model.
EXPORTS: dict[str, dict[str, object]] = {
    "named": {"composites": {key: f"pytorch.{key}" for key in ("layer_norm", "gelu", "softmax")}}, "counted": {"data_sizes": "capacity"},
}  # fmt: skip

MODELS = {model.name: model for model in (
    declare(Attention, {"x": _float("b", "s", WIDTH), "mask": Input("int64", ("b", "s"), "ones")}, {"b": _BATCH, "s": _LENGTH}),
    declare(Causal, {"x": _float("b", "s", WIDTH)}, {"b": _BATCH, "s": _LENGTH}),
    declare(Pictures, {"image": _float("b", 3, "h", "w")}, {"b": Symbol(1, 4), "h": Symbol(8, 32, multiple_of=4), "w": Symbol(8, 32)}),
    declare(Index, {"ids": Input("int64", ("n",), {"randint": [0, 32]}), "x": _float("n", WIDTH)}, {"n": Symbol(1, 64)}),
    declare(Sizes, {"x": _float("n", 16)}, {"n": Symbol(1, 64)}),
    declare(Training, {"x": _float("n", WIDTH)}, {"n": Symbol(2, 64)}, mode="training"),
    declare(Casts, {"x": _float("n", 64)}, {"n": Symbol(1, 64)}),
    declare(Pair, {"x": _float("n", 4), "y": _float("n", 4), "z": _float("2*n")}, {"n": Symbol(4, 64, multiple_of=4)}),
    declare(Branches, {"x": _float("n", 4), "flag": Input("int64", (3,), {"randint": [-2, 3]})}, {"n": Symbol(1, 32)}),
    declare(Wide, {"x": _float("n", "m")}, {"n": Symbol(1, 1 << 18), "m": Symbol(1, 1 << 12)}),
    declare(Fields,
            {"x": _float("b", "s", WIDTH), "kind": Input("int64", ("b", "s"), "zeros"), "place": Input("int64", ("b", "s"), "arange"),
             "mask": Input("bool", ("b", "s"), "ones"), "padding": Input("int64", ("b", "s"), "padding")}, {"b": _BATCH, "s": _LENGTH}),
    declare(Threes, {"x": _float("n", 4)}, {"n": Symbol(3, 33, example=6)}),
    declare(Gated, {"x": _float("n", WIDTH)}, {"n": Symbol(1, 32)}),
    declare(Named, {"x": _float("n", WIDTH)}, {"n": Symbol(1, 32)}),
    declare(Cache, {"x": _float("n", 4), "keys": _STATE, "values": _STATE}, {"n": Symbol(1, 32)}),
    declare(Counted, {"x": _float("n")}, {"n": Symbol(2, 32)}, capacities={"u0": 20}),
    declare(Ties, {"n": Input("int64", ("k",), {"randint": [0, 100]})}, {"k": Symbol(1, 32)}),
    declare(Undefined, {"x": _float("n", 4)}, {"n": Symbol(1, 32)}),
    declare(Draws, {"x": _float("n", WIDTH)}, {"n": Symbol(1, 32)}),
    Model("scripted", {"_target_": f"{__name__}.scripted"}, {"x": _float("b", "s", WIDTH)}, {"b": _BATCH, "s": _LENGTH}),
)}  # fmt: skip
