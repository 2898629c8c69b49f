"""The documentation: links that lead somewhere, keys and commands that exist."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from flows.command.verbs import VERBS
from flows.config.plan import plan
from lowering.eager.module import instantiate
from lowering.job import Job
from lowering.record.result import OUTCOMES
from lowering.stage import Silent
from lowering.stages.package import Package
from tests.unit.models import tiny_bert

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TEXTS = [*sorted(DOCS.glob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/RESULTS.md"))]
REFERENCE = DOCS / "reference"


@pytest.fixture(scope="module")
def reference() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    assert spec and spec.loader
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    return dict(hooks.make_pages())


def anchors(text: str) -> set[str]:
    plain = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^#+ (.+)$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_prose_is_at_most_140_columns_wide() -> None:
    """Tables, code and pages that a benchmark generates may be wider."""
    wide = []
    for file in TEXTS:
        text = file.read_text(encoding="utf-8")
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE) if "not to be edited by hand" not in text else ""
        wide += [f"{file.name}: {line}" for line in prose.splitlines() if len(line) > 140 and not line.startswith(("|", "   |", "    "))]
    assert wide == []


def test_scripts_and_styles_of_the_pages_are_at_most_140_columns_wide() -> None:
    """Prettier wraps all but strings, patterns and comments."""
    files = sorted((ROOT / "flows/report/dashboard/assets").iterdir())
    lines = [f"{file.name}: {line}" for file in files for line in file.read_text(encoding="utf-8").splitlines() if len(line) > 140]
    assert files and lines == []


def test_every_link_leads_to_a_file_and_a_heading(reference: dict[str, str]) -> None:
    dead = []
    for file in TEXTS:
        prose = re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            path, _, anchor = link.partition("#")
            if "://" in link or link.startswith("mailto:"):
                continue
            target = (file.parent / path).resolve() if path else file
            if target.parent == REFERENCE:
                text = reference.get(target.stem)
            else:
                text = (target.read_text(encoding="utf-8") if target.is_file() and target.suffix == ".md" else ""
                        if target.exists() else None)
            if text is None or (anchor and anchor not in anchors(text)):
                dead.append(f"{file.name}: {link}")
    assert dead == []


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page(reference: dict[str, str]) -> None:
    listed = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("nav:")[1]))
    assert listed == {*(path.name for path in DOCS.glob("*.md")), *(f"reference/{name}.md" for name in reference)}


def test_every_key_of_a_configuration_and_every_option_is_documented(reference: dict[str, str]) -> None:
    rows = [line for name in ("model", "suite", "pipeline", "cluster", "stages")
            for line in reference[name].splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    assert [row for row in rows if row.rstrip().endswith("|  |")] == []


def test_every_command_that_the_texts_name_exists(reference: dict[str, str]) -> None:
    own = [verb for verb in VERBS if verb != "multirun"]  # its help is Hydra's
    assert [verb for verb in own if f"## {verb}\n\n```text\nusage: shapeline {verb}" not in reference["commands"]] == []
    named = {word for file in TEXTS
             for word in re.findall(r"^(?:\$ )?shapeline ([a-z][a-z-]+)\b", file.read_text(encoding="utf-8"), re.MULTILINE)}
    assert named <= set(VERBS)


def list_configurations() -> list[tuple[str, str, str]]:
    """Return (page and number, kind, text) of the complete models and suites in the pages. test_fresh.py runs those of the tutorial."""
    found = []
    for file in (path for path in TEXTS if path.name != "tutorial.md"):
        for index, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", file.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)):
            keys = yaml.safe_load(text)
            kind = "suite" if "models" in keys else "model" if "factory" in keys else ""
            found += [(f"{file.stem}-{index}", kind, text)] if kind else []
    return found


@pytest.mark.parametrize(("kind", "text"), [pytest.param(*rest, id=name) for name, *rest in list_configurations()])
def test_models_and_suites_of_the_pages_are_valid(kind: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "shown.yaml").write_text(text, encoding="utf-8")
    jobs = plan([f"{kind}={tmp_path / 'shown.yaml'}"]).jobs
    assert jobs
    if "huggingface.build" in text:
        instantiate(Job.from_json(jobs[0]).model)


def test_the_recipe_for_stock_tools_works_word_for_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    package = Package()
    package.save(package.apply(tiny_bert.mhlo_level(), Silent()), tmp_path / "07-package")
    section = (DOCS / "consumers.md").read_text(encoding="utf-8").partition("## With stock tools\n")[2]
    code = section.partition("```python\n")[2].partition("\n```")[0]
    monkeypatch.chdir(tmp_path)
    exec(code, {})  # noqa: S102 - it is the repository's own
    printed = capsys.readouterr().out
    assert "linalg.generic" in printed and "tensor<2x16xi64>" in printed and "stablehlo." not in printed and "?x" not in printed


def find_codes() -> set[str]:
    """The codes of all warnings: the first argument of the calls that record one."""
    found: set[str] = set()
    for path in [*(ROOT / "lowering").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {getattr(node.targets[0], "id", ""): getattr(node.value, "value", None)
                     for node in tree.body if isinstance(node, ast.Assign)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in ("note", "recorder", "Remark", "Warned", "_accept"):
                    code = node.args[0]
                    is_constant = isinstance(code, ast.Name) and name == "recorder"  # `note` is also the name of other functions
                    value = constants.get(code.id) if is_constant else getattr(code, "value", None)
                    found |= {value} if isinstance(value, str) else set()
            elif "symbols" in path.parts and isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "code":
                found |= {value.value for value in ast.walk(node.value) if isinstance(value, ast.Constant) and isinstance(value.value, str)}
    return {code for code in found if re.fullmatch(r"[a-z]+[a-z_01]*", code)}


def test_every_warning_and_every_outcome_is_explained() -> None:
    rows = re.findall(r"^\| (`.*?`) \|", (DOCS / "messages.md").read_text(encoding="utf-8"), re.MULTILINE)
    explained = [word for row in rows for word in re.findall(r"`(\w+)`", row)]
    assert len(explained) == len(set(explained))
    codes, outcomes = find_codes(), set(OUTCOMES)
    assert len(codes) > 40
    assert (codes - set(explained), outcomes - set(explained), set(explained) - codes - outcomes) == (set(), set(), set())
