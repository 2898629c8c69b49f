"""Collectives and shardings, on virtual devices of XLA and in what their options refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lowering import meshes
from lowering.errors import StageFailed
from lowering.ir import mlir
from lowering.numerics.running import devices
from lowering.stages.stablehlo import ToStableHLO
from tests.unit.models import tiny_bert


def test_programs_on_two_and_four_devices_compute_what_one_device_does() -> None:
    ended = subprocess.run([sys.executable, "-m", "tests.unit.models.several_devices"], cwd=Path(__file__).parents[3], capture_output=True,
                           text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert {"tensor parallel on 2", "tensor parallel on 4", "artifact sharded by shardy", "shardy on one device",
            "output 4 on device 1"} <= set(found)
    assert {name: value for name, value in found.items() if value > 1e-5} == {}


def test_groups_are_the_devices_that_differ_along_the_axes() -> None:
    mesh = {"data": 2, "tp": 3}
    assert meshes.find_groups(mesh, ["tp"]) == [[0, 1, 2], [3, 4, 5]]
    assert meshes.find_groups(mesh, ["data"]) == [[0, 3], [1, 4], [2, 5]]
    assert meshes.find_groups(mesh, ["data", "tp"]) == [[0, 1, 2, 3, 4, 5]]


def test_shardings_name_the_device_of_each_tile() -> None:
    mesh = {"data": 2, "tp": 2}
    assert meshes.format_sharding(mesh, [None, "tp"], 2) == "{devices=[1,2,2]0,2,1,3 last_tile_dim_replicate}"
    assert meshes.format_sharding(mesh, ["data", "tp"], 3) == "{devices=[2,2,1]0,1,2,3}"
    assert meshes.format_sharding(mesh, [], 2) == "{replicated}"


def test_arguments_and_results_carry_their_shardings() -> None:
    stage = ToStableHLO(mesh={"x": 2}, shardings={"input_ids": ["x"], "*.query.weight": [None, "x"]}, result_shardings={"last*": ["x"]})
    program = tiny_bert.torch_level()
    assert not stage.requires(program)
    main = mlir.find_main(tiny_bert.lower(program, stage).ir.body.operations)
    assert program.signature is not None
    written = {argument.name: str(attributes["mhlo.sharding"])
               for argument, attributes in zip(program.signature.arguments, main.attributes["arg_attrs"], strict=True)}
    assert written["input_ids"] == '"{devices=[2,1]0,1}"' and written["attention_mask"] == '"{replicated}"'
    assert written["encoder.layer.0.attention.self.query.weight"] == '"{devices=[1,2]0,1}"'
    assert [str(attributes["mhlo.sharding"]) for attributes in main.attributes["res_attrs"]] == ['"{devices=[2,1,1]0,1}"', '"{replicated}"']


def test_options_that_do_not_fit_are_refused_together() -> None:
    stage = ToStableHLO(mesh={"x": 2, "y": 0}, groups={"0": ["z"]},
                        shardings={"input_ids": ["x", None, None], "no_such_input": ["x"], "attention_mask": ["x", "x"]})  # fmt: skip
    found = [f"{problem.place} {problem.cause}" for problem in stage.requires(tiny_bert.torch_level())]
    assert [line.partition(",")[0] for line in found] == [
        "stages.stablehlo.mesh.y has 0 devices",
        "stages.stablehlo.groups.0 names the axis 'z'",
        "stages.stablehlo.shardings.input_ids splits 3 dims",
        "stages.stablehlo.shardings.no_such_input matches none",
        "stages.stablehlo.shardings.attention_mask names the axis 'x' twice",
    ]


def test_too_few_devices_are_an_error_with_a_fix() -> None:
    with pytest.raises(StageFailed, match="xla_force_host_platform_device_count=64"):
        devices.run_on_each(tiny_bert.mhlo_level().ir, [[torch.zeros(1)]] * 64)
