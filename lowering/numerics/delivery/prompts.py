"""The tokens of sequences that a model generates: which are padding, and the masks and positions that follow from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from lowering.numerics.choices import Padding


def find_tokens(inputs: Collection[str]) -> str:
    """Return the leaf that takes the next token: that of the decoder, if a model has an encoder too. `input_ids` if there is none."""
    return _find_leaf("decoder_input_ids", inputs) or _find_leaf("input_ids", inputs) or "input_ids"


def find_logits(results: Collection[str]) -> str:
    """Return the result that chooses the next token. `logits` if there is none."""
    return _find_leaf("logits", results) or "logits"


def _find_leaf(word: str, names: Collection[str]) -> str | None:
    """Return the name that is `word`, or else the only one whose path ends with it: `batch.input_ids`."""
    inner = [name for name in names if name.endswith(f".{word}")]
    return word if word in names else inner[0] if len(inner) == 1 else None


@dataclass(frozen=True)
class Names:
    """The names of the arguments and of the result that generation is about. tokens: takes the next token; logits: chooses it."""

    tokens: str = "input_ids"
    logits: str = "logits"

    @property
    def mask(self) -> str:
        """The mask of the tokens, [batch, tokens]: `attention_mask` beside `input_ids`, with the prefix that those have."""
        return self._name_beside("attention_mask")

    @property
    def embeddings(self) -> str:
        """The embeddings of a prompt, [batch, tokens, width], which a model of images and text takes in place of tokens."""
        return self._name_beside("inputs_embeds")

    @property
    def positions(self) -> str:
        return self._name_beside("position_ids")

    def _name_beside(self, name: str) -> str:
        return self.tokens.removesuffix("input_ids") + name if self.tokens.endswith("input_ids") else name


@dataclass
class Prompt:
    """The tokens so far. kept: [batch, tokens], False for padding."""

    kept: torch.Tensor

    @staticmethod
    def make(batch: int, length: int, padding: Padding) -> Prompt:
        """Return a prompt whose rows have different numbers of padding, at least one token, and none in the last row of several."""
        kept = torch.ones(batch, length, dtype=torch.bool)
        if padding != "none":
            count = torch.tensor([(length // 2 + row) % length for row in range(batch)])
            count[-1] = 0 if batch > 1 else count[-1]
            kept = torch.arange(length) >= count[:, None]
            kept = kept.flip(-1) if padding == "right" else kept
        return Prompt(kept)

    def add(self) -> None:
        """Add a token to each row."""
        self.kept = torch.cat([self.kept, self.kept.new_ones(len(self.kept), 1)], dim=1)

    def write(self, made: Mapping[str, torch.Tensor], names: Names) -> dict[str, torch.Tensor]:
        """Return the masks and positions among the inputs of an entry, as they are for these tokens.

        A mask may be longer than the tokens, as that of a cache of fixed length: it is true for the rest. Positions may have dims before
        those of the tokens, as those of a model of images have one for text, time, height and width, which are all equal for text.
        """
        found = {}
        if (mask := made.get(names.mask)) is not None and mask.dim() == 2:
            whole = torch.ones(mask.shape, dtype=torch.bool)
            whole[:, : self.kept.shape[1]] = self.kept
            found[names.mask] = whole.to(mask.dtype)
        if (positions := made.get(names.positions)) is not None and positions.dim() >= 2:
            counted = (self.kept.long().cumsum(-1) - 1).clamp(min=0)
            last = counted[:, counted.shape[1] - positions.shape[-1]:].to(positions.dtype)
            found[names.positions] = last.expand(positions.shape).contiguous()
        return found
