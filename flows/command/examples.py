"""The examples that `shapeline COMMAND --help` prints: (command line, what it does). The reference pages have them too."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "new": (
        ("new model llama --from huggingface LlamaForCausalLM", "an architecture of transformers"),
        ("new model tower --from mypackage.models:Tower", "a class or function of your own"),
        ("new model served --from served.pt2 --trust", "an exported program"),
    ),
    "run": (
        ("run suite=quickstart -k 'bert or vit'", "some jobs of a suite"),
        ("run model=llama until=torchscript stages.export.decompose=core", "one model, down to a level, with an option of a stage"),
        ("run model=./mine.yaml model.mine.symbols.seq.max=128,512", "a file of your own, once for each value"),
        ("run suite=mine --config-dir ~/zoo --output /data/shapeline", "configurations and output elsewhere"),
    ),
    "list": (
        ("list suite=full -k llama", "the jobs that a run would have"),
        ("list --entries model=llama_generate", "the inputs of each job"),
        ("list --models", "the names that model=NAME can use"),
    ),
    "validate": (
        ("validate model=./mine.yaml", "one file"),
        ("validate --all --config-dir ~/zoo", "everything that can be found"),
    ),
    "doctor": (("doctor --output /data/shapeline", "check the machine, and the disk of this folder"),),
    "schema": (
        ("schema model", "the JSON Schema of model files"),
        ("schema --write schemas", "those of all configuration files, for an editor"),
        ("schema --records --write schemas", "those of report.json and other records"),
    ),
    "report": (
        ("report", "the newest run"),
        ("report 20261126T020000Z-nightly-3f9a01 --json", "a run by its id, as JSON"),
    ),
    "rerun-failed": (
        ("rerun-failed", "those of the newest run"),
        ("rerun-failed previous-run --dry-run", "only print the jobs"),
    ),
    "probe": (
        ("probe bert --symbol seq", "the widest range that lowers and verifies"),
        ("probe model=./mine.yaml --symbol batch --limit 65536", "look at sizes up to a limit"),
    ),
    "explain": (
        ("explain bert seq", "one dim, from the line of code to MHLO"),
        ("explain bert --source", "the model's code, annotated with the guards of each line"),
    ),
    "show": (
        ("show bert", "list the levels"),
        ("show bert mhlo --plain", "the MHLO without comments"),
    ),
    "exec": (
        ("exec bert --size batch=3 --size seq=16 --compare", "run at a size, and compare with eager where it was recorded"),
        ("exec ./out --size batch=3 --json", "a folder that Lowered.save wrote"),
        ("exec llama_generate--default --entry decode", "a function of the program of several entries"),
    ),
    "steps": (("steps llama_generate--default --steps 8 --padding left", "a prompt with padding, and eight steps"),),
    "bisect": (
        ("bisect bert --good RUN --bad RUN", "over the commits between two runs"),
        ("bisect bert --good RUN --bad RUN --axis transformers", "over the releases of a package"),
    ),
    "diff": (
        ("diff previous", "the newest run against the one before it"),
        ("diff baseline --markdown", "against the pinned run, for a comment"),
        ("diff RUN RUN --html diff.html", "two runs, as a page"),
    ),
    "blockers": (("blockers --json", "the whole list of the newest run, for other programs"),),
    "coverage": (("coverage zoo --against previous --format markdown", "for release notes, with what changed"),),
    "note": (
        ("note", "list the causes with their notes"),
        ("note 3f9a01c2 'Mia has it'", "add a note to a cause"),
        ("note 3f9a01c2 --remove", "remove its notes"),
    ),
    "tracker": (("tracker --dry-run nightly.tracker.kind=github nightly.tracker.repository=owner/name", "print what would be done"),),
    "update-expected": (("update-expected --dry-run", "print how the expectations would change"),),
    "pin": (("pin 20261126T020000Z-nightly-3f9a01", "make a run the baseline of its suite"),),
    "prune": (("prune --ir-runs 14 --runs 60 --days 90 --bytes 200G --dry-run", "print what would be deleted"),),
    "cache": (
        ("cache ls", "the results, most recently used first"),
        ("cache why bert", "which run made each result, or why there was none"),
        ("cache gc --max-bytes 20G", "delete the least recently used"),
        ("cache sign --trust", "use with a key what the store held before"),
    ),
    "environments": (
        ("environments", "their packages and sizes, most recently used first"),
        ("environments --remove torch_2_12", "remove one, by its name or folder"),
        ("environments --max-bytes 5G", "remove the least recently used"),
    ),
    "nightly": (
        ("nightly suite=quickstart 'nightly.cron=\"0 2 * * *\"' nightly.timezone=Europe/Berlin", "serve a schedule"),
        ("nightly suite=quickstart --once", "one night, now"),
    ),
    "server": (
        ("server", "a server in the foreground, for schedules"),
        ("server open", "the pages of the server that runs share"),
        ("server stop", "end it"),
    ),
    "completion": (
        ("completion bash > ~/.local/share/bash-completion/completions/shapeline", "bash, from the next shell on"),
        ("completion zsh > ~/.shapeline.zsh", "zsh: source this file in ~/.zshrc, after compinit"),
    ),
}


def render(verb: str) -> str:
    """Return the examples of a command as the end of its help; empty if there are none."""
    lines = [f"  shapeline {command}\n      {purpose}" for command, purpose in EXAMPLES.get(verb, ())]
    return "\n".join(["examples:", *lines]) if lines else ""
