"""`shapeline new`: files of models whose inputs come from their classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from flows.__main__ import main
from lowering.errors import LoadError
from lowering.sources import exported

MODULE = """
import torch

class Tower(torch.nn.Module):
    def __init__(self, width: int = 12):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1))
    def forward(self, image, scale: float = 1.0):
        return self.layers(image) * scale

class Asks(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
    def forward(self, x, y):
        return x + y

class Odd(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 5)
    def forward(self, x):
        return self.layer(x.view(3, 7))

class Calls(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 5)
    def forward(self, x):
        return torch.ops.shapeline_nowhere.norm(self.layer(x))

class Drops(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)
        self.rates = torch.linspace(0, 0.1, 3).tolist()
    def forward(self, image):
        return self.layer(image) * self.rates[-1]

class Reads(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)
    def forward(self, image):
        if not image.isfinite().all():
            raise ValueError("not finite")
        return self.layer(image)

class Patches(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.img_size = (48, 32)
        self.layer = torch.nn.Conv2d(3, 4, 16, stride=16)
        self.places = torch.nn.Parameter(torch.zeros(1, 4, 3, 2))
    def forward(self, image):
        return self.layer(image) + self.places

def fails():
    raise OSError("no disk")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapeline_new_models.py").write_text(MODULE)
    (tmp_path / "shapeline_new_broken.py").write_text("import shapeline_new_needed")
    return tmp_path


@pytest.mark.parametrize(("architecture", "shapes"), [
    ("DistilBertModel", {"input_ids": ["batch", "seq"], "attention_mask": ["batch", "seq"]}),
    ("ViTModel", {"pixel_values": ["batch", 3, 64, 64]}),
    ("T5ForConditionalGeneration",
     {"input_ids": ["batch", "seq"], "attention_mask": ["batch", "seq"], "decoder_input_ids": ["batch", "target"]}),
    ("MixtralForCausalLM", {"input_ids": ["batch", "seq"], "attention_mask": ["batch", "seq"]}),
    ("TimesformerModel", {"pixel_values": ["batch", 8, 3, 64, 64]}),
    ("DacModel", {"input_values": ["batch", 1, "samples"]}),
])  # fmt: skip
def test_a_file_of_an_architecture_is_valid_at_once(architecture: str, shapes: dict[str, list[object]], folder: Path) -> None:
    assert main(["new", "model", "mine", "--from", "huggingface", architecture]) == 0
    data = yaml.safe_load((folder / "mine.yaml").read_text())
    assert {name: leaf["shape"] for name, leaf in data["inputs"].items()} == shapes
    assert main(["list", "model=./mine.yaml"]) == 0
    assert ("experts" in data["factory"]) == (architecture == "MixtralForCausalLM")


def test_a_class_of_ones_own_is_read_from_its_first_layer(folder: Path) -> None:
    assert main(["new", "model", "models/tower.yaml", "--from", "shapeline_new_models:Tower"]) == 0
    data = yaml.safe_load((folder / "models" / "tower.yaml").read_text())
    assert data == {
        "factory": {"_target_": "shapeline_new_models.Tower"},
        "inputs": {"image": {"dtype": "float32", "shape": ["batch", 3, "height", "width"]}},
        "symbols": {"batch": {"min": 1, "max": 8}, "height": {"min": 32, "max": 256}, "width": {"min": 32, "max": 256}},
    }


def test_images_have_the_one_size_that_a_layer_takes(folder: Path) -> None:
    assert main(["new", "model", "mine", "--from", "shapeline_new_models:Patches"]) == 0
    data = yaml.safe_load((folder / "mine.yaml").read_text())
    assert (data["inputs"]["image"]["shape"], list(data["symbols"])) == (["batch", 3, 48, 32], ["batch"])


@pytest.mark.parametrize("name", ["Drops", "Reads"])
def test_a_class_that_reads_values_is_tried_with_values(name: str, folder: Path) -> None:
    assert main(["new", "model", "mine", "--from", f"shapeline_new_models:{name}"]) == 0
    assert yaml.safe_load((folder / "mine.yaml").read_text())["inputs"]["image"]["shape"] == ["batch", 3, "height", "width"]


@pytest.mark.parametrize(("name", "note", "text"), [
    ("Asks", "Give width of the factory, and the shapes of the inputs.", "y: {dtype: float32, shape: [batch, ???]}"),
    ("Odd", "forward fails with these inputs: ", "x: {dtype: float32, shape: [batch, 4]}"),
    ("Calls", "forward fails with these inputs: op 'shapeline_nowhere::norm': is not registered (list its library under libraries", "x: {"),
])  # fmt: skip
def test_what_is_left_for_the_author_is_said(name: str, note: str, text: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "model", "mine", "--from", f"shapeline_new_models:{name}"]) == 1
    written = (folder / "mine.yaml").read_text()
    assert written.startswith(f"# {note}") and text in written.replace("'", "")
    assert note in capsys.readouterr().out


def test_an_exported_program_is_a_model_with_its_own_dims(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(6, 3)

        def forward(self, x: torch.Tensor, ids: torch.Tensor, pair: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.layer(x)[ids] + pair["shift"]

    n, k = torch.export.Dim("n", min=4, max=40), torch.export.Dim("k", min=1, max=9)
    net, given = Net().eval(), (torch.randn(5, 6), torch.tensor([0, 2, 3]), {"shift": torch.ones(3)})
    torch.export.save(torch.export.export(net, given, dynamic_shapes=({0: n}, {0: k}, {"shift": None})), "net.pt2")
    assert main(["new", "model", "mine", "--from", "net.pt2"]) == 2
    assert "--trust" in capsys.readouterr().err
    assert main(["new", "model", "mine", "--from", "net.pt2", "--trust"]) == 0
    data = yaml.safe_load((folder / "mine.yaml").read_text())
    assert data["inputs"] == {"x": {"dtype": "float32", "shape": ["x_d0", 6]},
                              "ids": {"dtype": "int64", "shape": ["ids_d0"], "fill": {"randint": [0, 4]}},
                              "pair": {"shift": {"dtype": "float32", "shape": [3]}}}  # fmt: skip
    assert data["symbols"] == {"x_d0": {"min": 4, "max": 40}, "ids_d0": {"min": 1, "max": 9}}
    loaded = exported.load("net.pt2", trusted=True)
    wider = (torch.randn(8, 6), torch.tensor([7, 1]), {"shift": torch.ones(3)})
    torch.testing.assert_close(loaded(x=wider[0], ids=wider[1], pair=wider[2]), net(*wider))
    with pytest.raises(LoadError, match="trusted: true"):
        exported.load("net.pt2")
    (folder / "bad.pt2").write_bytes(b"no program")
    with pytest.raises(LoadError, match="is not an exported program"):
        exported.load("bad.pt2", trusted=True)


@pytest.mark.parametrize(("source", "problem"), [
    (["huggingface", "LlamaForCausalLN"], "LlamaForCausalLM"), (["huggingface"], "is no source"), (["nowhere:Model"], "cannot be imported"),
    (["shapeline_new_broken:Model"],
     "cannot be imported: ModuleNotFoundError: No module named 'shapeline_new_needed' (import shapeline_new_broken"),
    (["shapeline_new_models:fails"], "no disk"), (["shapeline_new_models:torch"], "is not callable"), (["os:getcwd"], "returns a str"),
])  # fmt: skip
def test_a_source_that_is_none_is_refused(source: list[str], problem: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "model", "mine", "--from", *source]) == 2
    assert problem in capsys.readouterr().err
    assert not (folder / "mine.yaml").exists()


def test_a_file_is_replaced_only_by_force(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.yaml").write_text("mine")
    assert main(["new", "model", "mine", "--from", "shapeline_new_models:Tower"]) == 2
    assert (folder / "mine.yaml").read_text() == "mine"
    assert main(["new", "model", "mine", "--from", "shapeline_new_models:Tower", "--force"]) == 0
    capsys.readouterr()
