"""Encoders of images of one size: an export computes what the encoder's own loops over the sizes of images compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, is_fake

from lowering.errors import LoadError
from lowering.sources import huggingface, huggingface_entries, images

TEXT = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4,
        "num_key_value_heads": 2, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}}
VISION = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "patch_size": 4, "temporal_patch_size": 2,
          "window_size": 16, "out_hidden_size": 32, "fullatt_block_indexes": [1]}
TOKENS = {name: number for number, name in enumerate(("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"))}
QWEN = {"config": "Qwen2_5_VLConfig", "architecture": "Qwen2_5_VLForConditionalGeneration", "max_length": 20, "image_size": [24, 32],
        "kwargs": {**TOKENS, "vision_config": VISION, "text_config": TEXT}}
PATCHES, FEATURES = 6 * 8, 3 * 2 * 4 * 4


def build_encoder() -> Any:
    torch.manual_seed(0)
    return huggingface.generation(**QWEN).get_encoder(modality="image")


def test_an_export_maps_the_encoder_over_images_with_windows_of_two_lengths() -> None:
    encoder = build_encoder()
    assert set(map(int, encoder.grid.given["cu_window_seqlens"])) == {0, 16, 32, 40, 48}
    count = torch.export.Dim("images", min=2, max=16)
    rows = torch.randn(3 * PATCHES, FEATURES, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        program = torch.export.export(encoder, (rows,), dynamic_shapes={"hidden_states": {0: PATCHES * count}}).run_decompositions({})
        for number in (2, 5):
            rows = torch.randn(number * PATCHES, FEATURES, generator=torch.Generator().manual_seed(number))
            want, got = encoder(rows, grid_thw=torch.tensor([[1, 6, 8]] * number)), program.module()(rows)
            assert all(torch.allclose(got[name], want[name], atol=1e-5) for name in ("last_hidden_state", "pooler_output"))
            assert torch.equal(encoder(rows).pooler_output, want.pooler_output), "eager mode runs the encoder's own loops"


def test_a_module_without_weights_has_the_values_of_its_grid() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        encoder = build_encoder()
    assert is_fake(encoder.patch_embed.proj.weight) and not is_fake(encoder.grid.given["window_index"])
    assert encoder.grid.compute(2)["window_index"].sort().values.tolist() == list(range(2 * PATCHES // 4))


def test_the_encoder_is_an_entry_whose_rows_are_the_patches_of_all_images() -> None:
    found = huggingface_entries.derive(QWEN)
    assert list(found["entries"]) == ["image_encoder", "embedding", "prefill", "decode"]
    assert found["entries"]["image_encoder"]["inputs"]["hidden_states"]["shape"] == [f"{PATCHES}*images", FEATURES]
    assert found["symbols"]["images"] == {"min": 1, "max": 16}


@pytest.mark.parametrize(("changes", "words"), [
    ({"image_size": [24, 30]}, "a side is a multiple of 8 pixels"),
    ({"config": "LlamaConfig", "architecture": "LlamaForCausalLM",
      "kwargs": {name: TEXT[name] for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")}},
     "no encoder of images with the argument"),
])
def test_a_size_that_an_encoder_cannot_take_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(LoadError, match=words):
        huggingface.generation(**{**QWEN, **changes})


def test_calls_are_collected_with_their_arguments_by_name_as_they_were_before_the_call() -> None:
    class Part(torch.nn.Module):
        def forward(self, left: torch.Tensor, right: int = 2, **more: Any) -> torch.Tensor:
            return left.add_(right)

    part = Part()
    with images.capture_calls(part) as calls:
        part(torch.zeros(2), scale=3)
    part(torch.zeros(2))
    assert len(calls) == 1 and calls[0].keys() == {"left", "scale"} and not calls[0]["left"].any()
