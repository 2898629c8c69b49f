"""Words that options choose from, without torch, so that commands can list them at once."""

from __future__ import annotations

from typing import Literal, get_args

Platform = Literal["cpu", "gpu"]  # that XLA runs on
PLATFORMS: tuple[Platform, ...] = get_args(Platform)

Padding = Literal["none", "left", "right"]  # the side of prompts that is padded
PADDINGS: tuple[Padding, ...] = get_args(Padding)
