"""`shapeline completion`: print a script that completes commands, options and values in a shell."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flows.command import verbs
from flows.command.arguments import make_parser
from flows.command.exits import OK
from flows.command.verbs import VERBS
from lowering.level import Level

SHELLS = ("bash", "zsh")
JOBS = ("explain", "show", "exec", "steps")  # their first word is a job of the newest run
PLANS = ("run", "list", "validate", "probe", "nightly", "tracker")  # take overrides: KEY=VALUE
KEYS = ("suite=", "model=", "until=", "route=", "cluster=", "stages=", "output=", "select=")
VALUES = {"until": [level.word for level in Level][1:], "route": ["torchscript", "fx"], "cluster": ["local", "dask", "ray"]}
SCRIPT = """\
_shapeline() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} key= prefix= words=
    # bash takes `=` for a word of its own, zsh does not
    if [[ $word == *?=* ]]; then key=${word%%=*} prefix=$key= word=${word#*=}
    elif [[ $word == = ]]; then key=$before word=
    elif [[ $before == = ]]; then key=${COMP_WORDS[COMP_CWORD-2]}
    fi
    if [[ $COMP_CWORD == 1 ]]; then words="@verbs@"
    elif [[ -n $key ]]; then
        case $key in
            suite) words=$(shapeline list --suites 2>/dev/null) ;;
            model) words=$(shapeline list --models 2>/dev/null) ;;
@values@
        esac
    else
        case ${COMP_WORDS[1]} in
@cases@
        esac
    fi
    COMPREPLY=($(compgen -P "$prefix" -W "$words" -- "$word"))
    [[ ${#COMPREPLY[@]} == 0 ]] && COMPREPLY=($(compgen -P "$prefix" -f -- "$word"))
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
"""
REGISTER = {"bash": "complete -F _shapeline shapeline\n",
            "zsh": "autoload -U +X bashcompinit && bashcompinit\ncomplete -F _shapeline shapeline\n"}
JOB_WORDS = "$(cd artifacts/runs/latest/jobs 2>/dev/null && ls)"


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("completion", "Print a script that completes commands, options and values. Install it again after an update.")
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads the script")
    print(make_script(parser.parse_args(arguments).shell), end="")
    return OK


def make_script(shell: str) -> str:
    """Return the script for a shell. It starts no Python but for names of suites and models, so it answers at once."""
    values = [f'            {key}) words="{" ".join(words)}" ;;' for key, words in VALUES.items()]
    cases = [f'            {verb}) words="{" ".join(_list_words(verb))}" ;;' for verb in VERBS]
    script = SCRIPT.replace("@verbs@", " ".join(VERBS)).replace("@values@", "\n".join(values)).replace("@cases@", "\n".join(cases))
    return script + REGISTER[shell]


def _list_words(verb: str) -> list[str]:
    """Return what may follow a command: its options and choices, keys that it takes, and jobs where it expects one."""
    found = read_words(verbs.read_help(verb)) if verb != "multirun" else []  # its help is Hydra's
    return [*found, *(KEYS if verb in PLANS else ()), *([JOB_WORDS] if verb in JOBS else ())]


def read_words(text: str) -> list[str]:
    """Return the options and the choices of positional arguments of a help text."""
    usage, _, rest = text.partition("\n\n")
    heads = re.findall(r"^  (-.*?)(?:  |$)", rest, re.MULTILINE)
    options = [option for head in heads for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", head)]
    positional = re.sub(r"\[?--?[a-z-]+ [^\]\s]*\]?", "", usage)  # without the values of options
    groups = re.findall(r"\{[^}]+\}|(?<= )[a-z]+(?:\|[a-z]+)+", positional)
    choices = [word for group in groups for word in re.split(r"[,|]", group.strip("{}"))]
    return list(dict.fromkeys([*choices, *options]))
