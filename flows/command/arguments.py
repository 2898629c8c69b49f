"""Arguments shared by several commands, each with one meaning and one default."""

from __future__ import annotations

import argparse
import math
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from flows import output
from flows.command import examples
from flows.config.compose import CONFIGS, Folders
from flows.config.overrides import quote
from lowering import paths
from lowering.trust import TRUST

NEWEST = "a run's folder or id (default: the newest)"
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Fill the description, and keep the lines of the examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return super()._fill_text(text, width, indent)
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with a usage error. Of an unknown option that may be a key of the configuration, it says how to write one."""
        key = re.match(r"unrecognized arguments: --([a-z][\w.]*)", message)
        takes_keys = "KEY=VALUE" in self.format_usage()
        super().error(message + (f" (a key of the configuration is written {key[1]}=VALUE)" if key and takes_keys else ""))


def make_parser(verb: str, description: str) -> argparse.ArgumentParser:
    """Return a parser without arguments, whose help ends with the examples of `verb`."""
    return _Parser(prog=f"shapeline {verb}", description=description, epilog=examples.render(verb).replace("%", "%%"),
                   formatter_class=_HelpFormatter)  # fmt: skip


def make_plan_parser(verb: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of a command that plans jobs: configuration overrides, and options that are short for some of them."""
    parser = make_parser(verb, description)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="configuration overrides, in Hydra's grammar")
    parser.add_argument("-k", dest="select", metavar="EXPR", help="only jobs whose id contains these words: 'bert and not image'")
    parser.add_argument("--config-dir", action="append", default=[], metavar="DIR",
                        help="also look in DIR/model, DIR/suite, ... (searched before Shapeline's own; repeatable)")
    parser.add_argument("--shard", metavar="i/n", help="only the i-th of n shards of the jobs, the same on every machine")
    parser.add_argument("--durations", metavar="RUN", help="balance the shards by the durations in this run's folder or report.json")
    parser.add_argument("--output", metavar="DIR", help="folder or URL for runs and the store (default: artifacts)")
    return parser


def make_run_parser(verb: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of a command about one finished run: RUN, --output."""
    parser = make_parser(verb, description)
    parser.add_argument("run", nargs="?", default="latest", help=NEWEST)
    add_output(parser)
    return parser


def make_job_parser(verb: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of a command about one job of a finished run: JOB, --run, --output."""
    parser = make_parser(verb, description)
    parser.add_argument("job", metavar="JOB", help="a job's id, a unique part of it, or its folder")
    parser.add_argument("--run", default="latest", help=NEWEST)
    add_output(parser)
    return parser


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add --output: the folder or URL of finished runs and the store."""
    parser.add_argument("--output", type=_parse_output, default=Path("artifacts"), metavar="DIR|URL",
                        help="folder or URL that holds runs/ and store/ (default: artifacts)")


def _parse_output(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("is empty: name a folder or a URL")
    found = output.locate(text)
    if found.exists() and not found.is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' is not a folder")
    return found


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add --trust: run what a record of somebody else names."""
    parser.add_argument(TRUST, action="store_true", help="also run code that a record of somebody else names; it is listed first")


def tell_trusted(piece: str) -> None:
    """Print a piece of code of somebody else that is about to run."""
    print(f"shapeline: {TRUST}: running {piece}", file=sys.stderr, flush=True)


def collect_overrides(options: argparse.Namespace) -> list[str]:
    """Return the options of a plan parser as overrides. They fully describe a run, so that it can be repeated from any directory."""
    texts = list(options.overrides)
    if options.config_dir:
        texts.append(f"hydra.searchpath=[{','.join(quote(folder) for folder in options.config_dir)}]")
    if options.select is not None:
        texts.append(f"select={quote(options.select)}")
    if options.shard is not None:
        texts.append(f"shard={quote(options.shard)}")
    if options.durations is not None:
        texts.append(f"durations={quote(str(paths.expand(options.durations).absolute()))}")
    if options.output is not None:
        texts.append(f"output={quote(options.output)}")
    return texts


def find_folders(options: argparse.Namespace) -> Folders:
    """Return the folders that the options of a plan parser search for configurations."""
    return Folders((*(Path(folder).resolve() for folder in options.config_dir), CONFIGS))


def parse_number(kind: type[int] | type[float], least: float, most: float) -> Callable[[str], float]:
    """Return a function that reads a number from `least` to `most`, as the type of an argparse option."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:  # nan is in no range
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"'{text}' is not {what} from {least:.12g} to {most:.12g}")
        return value

    return parse


def parse_new_file(text: str) -> Path:
    """Convert the name of a file that a command will write. Used as the type of an argparse option."""
    path = Path(text)
    if not text or path.is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' is not the name of a file")
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


def parse_size(text: str) -> int:
    """Convert `20G`, `500M` or `1.5 GiB` to bytes; units are powers of 1024. Used as the type of an argparse option."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size; write a number with K, M, G or T, such as 500M or 20G")
    return int(float(match[1]) * UNITS[match[2].upper()])
