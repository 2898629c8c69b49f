"""Padding is never counted as data: every model here gives other numbers if it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lowering import pipeline
from lowering.custom import libraries
from lowering.eager import inputs
from lowering.errors import Refused, Unsupported
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Input, Library, Model, Symbol
from lowering.numerics.coverage import special_values
from lowering.numerics.delivery import artifact
from lowering.numerics.running.runner import Eager, make_runner
from lowering.numerics.running.xla import Xla
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.package import Package
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify

CAPACITY = Export(archive=False, data_sizes="capacity")
STAGES = {"export": CAPACITY, "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(), "mhlo": ToMHLO(),
          "verify": Verify(levels=("mhlo",), points=2, values=("edges",)), "package": Package()}
INPUTS = {"x": Input("float32", ("batch", 4)), "mask": Input("bool", ("batch",), {"randint": [0, 2]}),
          "ids": Input("int64", ("batch",), {"randint": [0, 6]})}


class Planted(torch.nn.Module):
    """Each result changes if one more element is counted."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        chosen, rows = torch.masked_select(x, x > 0.1) - 3, x[mask]
        values, counts = torch.unique(ids, return_counts=True)
        rows_of = x.new_zeros(6, 4).index_add(0, ids[mask], rows)
        return {
            "mean": chosen.mean(), "softmax": chosen.softmax(0), "size": x.sum() + chosen.shape[0], "var": rows.var(0),
            "norm": chosen.norm(), "argmax": chosen.argmax(), "cat": torch.cat([chosen, x.sum(1), x[x < 0]]).mean(),
            "median": chosen.sort().values.median(), "last": chosen.cumsum(0)[-1], "first": chosen.flip(0)[0], "prod": (chosen / 3).prod(),
            "gram": rows.T @ rows, "top": chosen.topk(2).values, "flat": rows.reshape(-1).sum(), "most": chosen.amax(), "ids": values,
            "counts": counts, "histogram": torch.histc(chosen, 4), "third": rows.sum(1).kthvalue(1).values,
            "ranks": torch.searchsorted(chosen.sort().values, x),
            "convolved": torch.conv1d(rows.T[None], x.new_ones(2, 4, 3), stride=2, padding=1), "trace": (rows @ rows.T).diagonal().sum(),
            "parts": torch.stack([torch.cat([rows, x[~mask]]), x]),
            "normal": torch.nn.functional.batch_norm(torch.cat([rows, x]), None, None, training=True),
            "without": torch.where(rows > 1, torch.nan, rows).nanmean(), "steps": rows[::2] - rows[::2].mean(0), "end": rows[-1:],
            "layer": torch.nn.functional.layer_norm(rows.T, [rows.shape[0]]), "rms": torch.nn.functional.rms_norm(rows.T, [rows.shape[0]]),
            "lower": torch.where(rows > 1, torch.nan, rows).nanmedian(0).values, "frequent": ids[mask].mode().values,
            "reduced": x.new_zeros(6, 4).index_reduce(0, ids[mask], rows, "mean", include_self=False),
            "added": rows_of, "chosen": chosen, "two": torch.cat([rows, rows + 1], 1), "places": (x > 0.1).nonzero(),
        }  # fmt: skip


def model(module: type[torch.nn.Module], inputs: dict[str, Input], **more: Any) -> Model:
    return Model("planted", {"_target_": f"{__name__}.{module.__name__}"}, inputs, {"batch": Symbol(3, 64)}, **more)


def exported(module: type[torch.nn.Module], names: str = "x", **more: Any) -> Program:
    return CAPACITY.apply(Program(Level.MODEL, model(module, {name: INPUTS[name] for name in names.split()}, **more)), Silent())


def test_eagers_numbers_down_to_mhlo_and_from_the_package(tmp_path: Path) -> None:
    result = pipeline.run(Job(model(Planted, INPUTS), STAGES), tmp_path)
    assert result.outcome == "ok", result.problems
    ran = artifact.execute(tmp_path, {"batch": 9})
    count = ran.results["chosen"].shape[0]
    assert 0 < count < 36 and ran.results["places"].shape == (count, 2) and ran.results["two"].shape[1] == 8
    assert "u0" not in ran.results and (ran.results["chosen"] > -2.9).all()
    signature = artifact.Artifact.load(tmp_path).signature
    (chosen,) = (result for result in signature.results if result.name == "chosen")
    (counted,) = (result for result in signature.results if (result.kind, result.name) == ("count", chosen.dims[0]))
    assert counted.value == "4*batch"


def test_none_some_and_all_are_selected() -> None:
    program = exported(Selected, "x mask")
    run, eager = make_runner(program, Xla()), Eager(program.model, program.at(Level.MODEL).ir.module, program.signature)
    for share in (0.0, 0.4, 1.0):
        given = {"x": torch.randn(7, 4), "mask": torch.rand(7) < share}
        for got, want in zip(run(given), eager(given), strict=True):
            torch.testing.assert_close(got, want, equal_nan=True)


class Selected(torch.nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows = x[mask]
        written = x.clone()
        written[mask] = rows * 2
        return rows, rows.mean(0), rows.sum(), rows.std(0), torch.cat([x, rows]).softmax(0), written, rows.sort(0)[0], rows.repeat(2, 1)


class Refusing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.inv(x[x[:, 0] > 0] @ x[x[:, 0] > 0].T)


def test_an_op_without_a_rule_is_refused_by_name_and_line() -> None:
    with pytest.raises(Unsupported) as refused:
        exported(Refusing)
    (problem,) = refused.value.problems
    assert "linalg_inv" in problem.place and f"{Path(__file__).name}:" in problem.place and "count" in problem.cause


class Pairs(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pdist(x[x[:, 0] > 0])


class Steps(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrence = torch.nn.GRU(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.recurrence(x[x[:, 0] > 0].unsqueeze(1))[1]


@pytest.mark.parametrize(("module", "instead"), [(Pairs, "torch.cdist"), (Steps, "pack_padded_sequence")])
def test_a_refusal_names_the_models_line_and_what_to_write_instead(module: type[torch.nn.Module], instead: str) -> None:
    with pytest.raises(Unsupported) as refused:
        exported(module)
    (problem,) = refused.value.problems
    assert instead in problem.cause and f"{Path(__file__).name}:" in problem.place


class Inner(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.T[:, x[:, 0] > 0].argmax()


def test_the_flat_number_of_an_element_is_refused_where_an_inner_dim_is_padded() -> None:
    with pytest.raises(Unsupported, match=r"argmax.*inner dim is padded"):
        exported(Inner)


class Bounded(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[x > 0]


def test_a_declared_capacity_is_taken_and_checked() -> None:
    line = f"{Path(__file__).name}:{Bounded.forward.__code__.co_firstlineno + 1}"
    for name in ("u0", line):
        program = exported(Bounded, capacities={name: 5})
        (count,) = (result for result in program.signature.results if result.kind == "count")
        assert count.value == "5"
        run = make_runner(program, Xla())
        assert run({"x": torch.tensor([[1.0, -1, 2, -3]] * 2 + [[-1.0] * 4])})[0].tolist() == [1, 2, 1, 2]
        with pytest.raises(Refused, match="u0 must be at most its capacity 5"):
            run({"x": torch.ones(3, 4)})


class Unbounded(torch.nn.Module):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.bincount(ids)


def test_a_size_without_a_bound_asks_for_one() -> None:
    with pytest.raises(Unsupported, match=r"no known bound.*torch\._check.*capacities"):
        exported(Unbounded, "ids")
    program = exported(Unbounded, "ids", capacities={"u0": 6})
    assert make_runner(program, Xla())({"ids": torch.tensor([1, 1, 4])})[0].tolist() == [0, 2, 0, 0, 1]


class Moved(torch.nn.Module):
    """Ops that move padding, or have no size that data decide but a rule."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor | int]:
        rows, count = x[mask], mask.sum().item()
        torch._check(count <= x.shape[0])
        names, inverse = torch.unique(x[:, :1].round(), dim=0, return_inverse=True)
        repeated = x.repeat_interleave(mask.to(torch.int64), 0)
        torch._check(repeated.shape[0] <= x.shape[0])
        bags = torch.nn.functional.embedding_bag(ids[mask], x, torch.tensor([0, 0, 1]), mode="mean")
        boxes = torch.cat([x[:, :2], x[:, :2] + x[:, 2:].abs()], 1)[mask]
        kept = torch.ops.torchvision.nms(boxes, x[mask, 0], 0.1)
        image, regions = torch.outer(x[:, 0], x[:, 1])[None, None], torch.cat([torch.zeros_like(boxes[:, :1]), boxes * 3], 1)
        return {
            "inner": x[:, None, :].expand(-1, 3, -1)[:, :, :2].transpose(0, 1)[:, mask].reshape(-1, 2), "head": x[:count],
            "tail": x[count:], "back": torch.zeros_like(x).masked_scatter(x > 0, x[x > 0] * 2), "names": names, "inverse": inverse,
            "repeated": repeated, "bags": bags, "kept": kept,
            "aligned": torch.ops.torchvision.roi_align(image, regions, 0.5, 2, 3, 2, False),
            "adaptive": torch.ops.torchvision.roi_align(image, regions, 1.0, 1, 2, 0, True), "static": torch.nonzero_static(mask, size=4),
            "count": count, "stacked": torch.stack([rows, -rows]), "rolled": rows.roll(1, 0),
            "padded": torch.nn.functional.pad(rows, (0, 0, 1, 1), value=5.0), "split": rows.split(1, 1)[2],
            "scattered": x.scatter_add(0, ids[mask][:, None].expand(-1, 4) % 3, rows), "matrix": rows @ rows.T, "tiled": rows.repeat(2, 1),
            "grouped": torch._grouped_mm(x.repeat(1, 2).to(torch.bfloat16), 2 * torch.eye(8, dtype=torch.bfloat16).repeat(2, 1, 1),
                                         offs=torch.stack([mask.sum(), torch.ones_like(mask).sum()]).to(torch.int32)),
        }  # fmt: skip


def test_ops_that_move_padding() -> None:
    libraries.load(model(Moved, {}, libraries=(Library(module="lowering.sources.detection"),)))
    program = exported(Moved, "x mask ids", libraries=(Library(module="lowering.sources.detection"),))
    run, eager = make_runner(program, Xla()), Eager(program.model, program.at(Level.MODEL).ir.module, program.signature)
    for seed, share in enumerate((0.3, 0.6, 1.0, 0.9)):
        generator = torch.Generator().manual_seed(seed)
        given = {"x": torch.randn(6 + seed, 4, generator=generator), "mask": torch.rand(6 + seed, generator=generator) < share,
                 "ids": torch.randint(0, 6, (6 + seed,), generator=generator)}
        given["mask"][0] = True
        for result, got, want in zip(program.signature.returned, run(given), eager(given), strict=True):
            torch.testing.assert_close(got, want, equal_nan=True, msg=lambda text, name=result.name: f"{name}: {text}")


class Length(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[x > 0].sum() / len(x[x > 0])


def test_len_is_the_count() -> None:
    x = torch.randn(5, 4)
    torch.testing.assert_close(make_runner(exported(Length), Xla())({"x": x})[0], x[x > 0].mean())


@pytest.mark.parametrize(("word", "share"), [("none", 0.0), ("one", None), ("all", 1.0)])
def test_values_for_the_data_axis_select_no_one_and_every_element(word: str, share: float | None) -> None:
    declared = model(Selected, {"x": INPUTS["x"], "mask": INPUTS["mask"], "score": Input("float32", ("batch",), {"uniform": [0, 1]})})
    made = inputs.make(declared, {"batch": 6})
    ((_, changed),) = special_values.list_sets(declared, made, (word,))
    selected = [changed["mask"], changed["x"] > 0, changed["score"] > 0.5]
    assert [int(mask.sum()) for mask in selected] == [1 if share is None else int(share * mask.numel()) for mask in selected]


def test_no_archive_is_written_that_torch_could_not_run(tmp_path: Path) -> None:
    program = exported(Bounded)
    names = [path.name for path in replace(CAPACITY, archive=True).save(program, tmp_path / "01-export")]
    assert names == ["01-export.py", "01-export.pt2-failed.txt"]
