"""Entries of a model's file: a job for each, with what they share and what is its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.config.declarations import load_options
from flows.config.derived import Derived
from flows.config.expansion import job_id
from flows.config.plan import plan
from tests.unit.config.configurations import not_said, refused, write

SERVED = """
factory: {_target_: tests.unit.models.nested_models.Inheriting}
inputs:
  cache: {layers: {repeat: 2, keys: {dtype: float32, shape: [batch, 4]}}}
entries:
  prefill:
    inputs:
      ids: {dtype: int64, shape: [batch, seq]}
      cache: {layers: {keys: {fill: zeros}}}
  decode:
    method: step
    inputs: {ids: {dtype: int64, shape: [batch, chunk]}}
    symbols: {chunk: {min: 1, max: 4}}
symbols:
  batch: {min: 1, max: 8}
  seq: {min: 1, max: 64}
"""


def test_each_entry_is_a_job_of_its_own(folder: Path) -> None:
    write(folder / "model/served.yaml", SERVED)
    jobs = {job_id(job): job["model"]
            for job in plan([f"hydra.searchpath=['{folder}']", "model=served", "model.entries.decode.symbols.chunk.max=2"]).jobs}
    assert list(jobs) == ["served--default:prefill", "served--default:decode"]
    prefill, decode = jobs.values()
    assert (prefill["method"], prefill["entry"], decode["method"], decode["entry"]) == ("forward", "prefill", "step", "decode")
    assert prefill["symbols"].keys() == {"batch", "seq"} and decode["symbols"]["chunk"]["max"] == 2
    assert decode["symbols"].keys() == {"batch", "chunk"}
    assert prefill["inputs"]["cache"]["layers"]["keys"]["fill"] == "zeros" and decode["inputs"]["cache"]["layers"]["keys"]["fill"] is None
    assert prefill["factory"] == decode["factory"] and prefill["seed"] == decode["seed"]


def test_one_entry_can_be_selected(folder: Path) -> None:
    write(folder / "model/served.yaml", SERVED)
    assert [job_id(job) for job in plan([f"hydra.searchpath=['{folder}']", "model=served", "select=decode"]).jobs] == (
        ["served--default:decode"])


def test_a_problem_is_at_the_key_of_its_entry_or_of_what_all_share(folder: Path) -> None:
    file = write(folder / "model/served.yaml", SERVED.replace("[batch, seq]", "[batch, sqe]").replace("[batch, 4]", "[bacth, 4]")
                 .replace("chunk]}}", "chunk], fil: ones}}").replace("  decode:", "  de-code:"))
    found = refused(f"hydra.searchpath=['{folder}']", "model=served")
    assert not_said([f"{file}:12 entries.de-code.inputs.ids.fil: is not a known key (did you mean 'fill'?)"], found) == ""
    file.write_text(file.read_text().replace(", fil: ones", ""))
    found = refused(f"hydra.searchpath=['{folder}']", "model=served")
    assert not_said([f"{file}:8 entries.prefill.inputs.ids.shape[1]: symbol 'sqe' is not declared (did you mean 'seq'?)",
                     f"{file}:4 inputs.cache.layers.keys.shape[0]: symbol 'bacth' is not declared (did you mean 'batch'?)",
                     f"{file}:10 entries.de-code: 'de-code' cannot be the name of a function"], found) == ""
    file.write_text(SERVED.replace("[batch, seq]", "[batch, 7]"))
    assert refused(f"hydra.searchpath=['{folder}']", "model=served") == [
        f"{file}:16 symbols.seq: is not used in the inputs of any entry (use it in a shape or remove it)"]


def test_the_classes_of_a_package_that_is_imported_already_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    spec = transformers.__spec__
    assert spec is not None and spec.origin is not None
    monkeypatch.setattr(spec, "submodule_search_locations", [Path(spec.origin).parent])  # as it is after the first lazy import
    load_options.cache_clear()
    cache = "{_target_: transformers.StaticCache, layers: {repeat: 2, keys: {dtype: float32, shape: [batch, 4]}}}"
    write(folder / "model/served.yaml", SERVED.replace("{layers: {repeat: 2, keys: {dtype: float32, shape: [batch, 4]}}}", cache))
    assert len(plan([f"hydra.searchpath=['{folder}']", "model=served"]).jobs) == 2


def test_an_entry_comes_after_another_one(folder: Path) -> None:
    file = write(folder / "model/served.yaml", SERVED.replace("    method: step", "    method: step\n    after: prefill"))
    prefill, decode = (job["model"] for job in plan([f"hydra.searchpath=['{folder}']", "model=served"]).jobs)
    assert prefill["after"] is None and decode["after"]["entry"] == "prefill" and decode["after"]["inputs"] == prefill["inputs"]
    file.write_text(SERVED.replace("    method: step", "    method: step\n    after: prefil"))
    assert not_said([f"{file}:12 entries.decode.after: there is no entry 'prefil' (did you mean 'prefill'?)"],
                    refused(f"hydra.searchpath=['{folder}']", "model=served")) == ""
    file.write_text(SERVED.replace("    method: step", "    method: step\n    after: decode"))
    assert not_said([f"{file}:12 entries.decode.after: 'decode' comes after 'decode' too"],
                    refused(f"hydra.searchpath=['{folder}']", "model=served")) == ""


GENERATION = """
factory:
  _target_: lowering.sources.huggingface.generation
  config: LlamaConfig
  architecture: LlamaForCausalLM
symbols: {batch: {max: 4}}
entries:
  prefill: {inputs: {attention_mask: {fill: ones}}}
"""
LEAF = {"dtype": "int64", "shape": ["batch", "seq"]}
STEP = {"inputs": {"input_ids": {"dtype": "int64", "shape": ["batch", 1]}, "states": {"dtype": "float32", "shape": ["batch", "past"]}}}
IMPLIED = {"entries": {"prefill": {"inputs": {"input_ids": LEAF, "attention_mask": LEAF | {"fill": "padding"}}}, "decode": STEP},
           "symbols": {"batch": {"min": 1, "max": 16}, "seq": {"min": 1, "max": 64}, "past": {"min": 1, "max": 63}}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The factories whose entries were asked of the source."""
    found: list[object] = []

    def ask(_: Derived, arguments: object) -> object:
        found.append(arguments)
        return IMPLIED if arguments == {"config": "LlamaConfig", "architecture": "LlamaForCausalLM"} else {
            "problems": [{"place": "config", "cause": "transformers has no such class", "fix": ""}]}

    monkeypatch.setattr(Derived, "_ask", ask)
    return found


def test_a_file_is_merged_over_the_entries_that_its_factory_implies(folder: Path, asked: list[object]) -> None:
    file = write(folder / "model/chat.yaml", GENERATION)
    prefill, decode = (job["model"]
                       for job in plan([f"hydra.searchpath=['{folder}']", "model=chat", "model.entries.decode.symbols.past.max=9"]).jobs)
    assert prefill["inputs"]["attention_mask"]["fill"] == "ones"
    assert prefill["symbols"]["batch"] == {"min": 1, "max": 4, "multiple_of": 1, "example": None}
    assert decode["symbols"].keys() == {"batch", "past"} and decode["symbols"]["past"]["max"] == 9
    file.write_text(GENERATION.replace("{inputs: {attention_mask: {fill: ones}}}", "null"))
    assert [job_id(job) for job in plan([f"hydra.searchpath=['{folder}']", "model=chat"]).jobs] == ["chat--default:decode"]
    assert len(asked) == 1, "the entries of a factory are kept"


def test_a_factory_whose_entries_cannot_be_found_is_refused_at_its_key(folder: Path, asked: list[object]) -> None:
    file = write(folder / "model/chat.yaml", GENERATION.replace("LlamaConfig", "LamaConfig"))
    assert refused(f"hydra.searchpath=['{folder}']", "model=chat") == [f"{file}:4 factory.config: transformers has no such class"]
    file.write_text(GENERATION.replace("architecture:", "architektur:"))
    found = refused(f"hydra.searchpath=['{folder}']", "model=chat")
    assert not_said([f"{file}:5 factory.architektur: lowering.sources.huggingface.generation has no option"], found) == ""
    assert len(asked) == 1


def test_the_entries_of_shipped_models_are_kept_with_them(asked: list[object]) -> None:
    jobs = [job_id(job) for job in plan(["suite=generation"]).jobs]
    assert not asked, "shapeline list suite=generation --entries --write configs/entries.json"
    assert {"llama_generation--dynamic:prefill", "llama_generation--static:decode"} <= set(jobs)
