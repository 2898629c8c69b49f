"""Checks of stages, their options and order, model factories and losses, from their declarations alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flows.config import declarations
from flows.config.declarations import Options, StageDeclaration
from flows.config.definitions import Undeclared, has_module
from flows.config.schema import split_keys
from lowering import ladder, recipe
from lowering.errors import Problem, suggest
from lowering.fitting import Keys, Misfit, find_misfits, format_value
from lowering.model import Library, Model
from lowering.recipe import TARGET
from lowering.trees import Construction, iterate

Place = Callable[[Keys], str]


def check_stages(stages: Mapping[str, Mapping[str, Any]], until: str | None, place: Place) -> list[Problem]:
    """Return all problems of the stages: their targets, options, the order of their levels, and the level to stop at."""
    found: list[Problem] = []
    declared: dict[str, StageDeclaration] = {}
    for name, spec in stages.items():
        keys = ("stages", name)
        target = spec.get(TARGET)
        if not isinstance(target, str):
            others = [other for other in stages if stages[other].get(TARGET)]
            fix = suggest(name, others) or "set it to the stage's class, or remove the key"
            found.append(Problem(place(keys), f"has no {TARGET}", fix))
            continue
        try:
            declared[name] = declarations.load_stage(target)
        except Undeclared as error:
            found.append(Problem(place((*keys, TARGET)), f"{target}: {error}", error.fix))
            continue
        found += _place_misfits(_check_options(declared[name].options, spec, keys), place)
    if len(declared) < len(stages):
        return found
    found += [Problem(place(tuple(problem.place.split("."))), problem.cause, problem.fix) for problem in ladder.check(declared)]
    words = list(dict.fromkeys(stage.target.word for stage in declared.values()))
    if until is not None and until not in words:
        fix = suggest(until, words) or f"levels: {', '.join(words)}"
        found.append(Problem(place(("until",)), f"no stage produces the level '{until}'", fix))
    return found


def check_dropped(changes: Mapping[str, Any], stages: Mapping[str, Any], place: Place) -> list[Problem]:
    """Return a problem for each stage that `changes` drops (sets to null) although `stages` has no stage of that name."""
    unknown = [name for name, spec in changes.items() if spec is None and name not in stages]
    return [Problem(place(("stages", name)), f"drops '{name}', but there is no such stage",
                    suggest(name, stages) or f"stages: {', '.join(stages)}") for name in unknown]


def check_factory(factory: Mapping[str, Any], place: Place) -> list[Problem]:
    """Return all problems of a model's factory that its declaration shows."""
    if TARGET not in factory:
        return [Problem(place(("factory",)), f"has no {TARGET}", "set it to the callable that builds the model, as package.module.name")]
    return _place_misfits(_check_recipe(factory, ("factory",)), place)


def check_inputs(trees: Mapping[str, Any], place: Place) -> list[Problem]:
    """Return all problems of the objects among a model's inputs (`Model.trees`) that the declarations of their classes show."""
    found = []
    for made in iterate(trees, Construction):
        keys, target = split_keys(made.place), made.target
        is_cache = target.startswith("transformers.") and target.endswith("Cache")  # built from its layers, not by its constructor alone
        try:
            options = declarations.load_options(target.replace("transformers.", "transformers.cache_utils.") if target.count(".") == 1
                                                and is_cache else target)
        except Undeclared as error:
            found.append(Problem(place((*keys, TARGET)), f"{target}: {error}", error.fix))
            continue
        if options is None or is_cache:
            continue
        known = f"it takes {', '.join(options.types) or 'nothing'}"
        found += [Problem(place((*keys, name)), f"{target} has no argument '{name}'", suggest(name, options.types) or known)
                  for name in made.fields if name not in options.types and not options.open]
        found += [Problem(place(keys), f"{target} needs '{name}'", "declare a leaf of that name") for name in
                  sorted(options.required - set(made.fields))]
    return found


def check_arguments(model: Model, place: Place) -> list[Problem]:
    """Return a problem for each input that the method of a model's class does not take, and for each argument that it needs.

    None for a factory whose declaration does not show the method: then the module is checked when it is built.
    """
    target = model.factory.get(TARGET)
    try:
        options = declarations.load_method(target, model.method) if isinstance(target, str) else None
    except Undeclared:  # `check_factory` reports it
        return []
    if options is None:
        return []
    method = f"{target}.{model.method}"
    targets = model.loss.get("targets", {}) if isinstance(model.loss, Mapping) else {}
    taken = {*options.types, *(targets.values() if isinstance(targets, Mapping) else ())}
    given = {**dict.fromkeys(model.inputs, "inputs"), **dict.fromkeys(model.constants, "constants")}
    known = f"it takes {', '.join(options.types) or 'nothing'}"
    found = [Problem(place((section, name)), f"{method} has no argument '{name}'", suggest(name, taken) or known)
             for name, section in given.items() if name not in taken and not options.open]
    return found + [Problem(place(("inputs",)), f"{method} needs '{name}'", f"declare inputs.{name}")
                    for name in sorted(options.required - set(given))]


def check_libraries(model: Model, place: Place) -> list[Problem]:
    """Return a problem for each Python module with ops that cannot be found."""
    return [Problem(place(("libraries", index, "module")), f"there is no module {library.module}", recipe.suggest_module(top))
            for index, library in enumerate(model.libraries)
            if isinstance(library, Library) and library.module and not has_module(top := library.module.split(".", 1)[0])]


def check_loss(loss: Any, place: Place) -> list[Problem]:
    """Return all problems of a model's loss that the declaration of its callable shows. `Model.problems` checks the rest."""
    parts = {key: loss.get(key, {}) for key in ("outputs", "targets")} if isinstance(loss, Mapping) else {}
    if not isinstance(loss, Mapping) or TARGET not in loss or not all(isinstance(part, Mapping) for part in parts.values()):
        return []
    target = loss[TARGET]
    if not isinstance(target, str):
        return [Problem(place(("loss", TARGET)), f"{format_value(target)} is not a dotted path", "write package.module.name")]
    try:
        options = declarations.load_options(target)
    except Undeclared as error:
        return [Problem(place(("loss", TARGET)), f"{target}: {error}", error.fix)]
    if options is None:
        return []
    given: dict[str, Keys] = {name: ("loss", name) for name in loss if name not in (TARGET, *parts)}
    given |= {str(name): ("loss", key, name) for key, part in parts.items() for name in part}
    unknown = [name for name in given if name not in options.types and not options.open]
    missing = sorted(options.required - set(given))
    known = f"it takes {', '.join(options.types)}"
    found = [Problem(place(given[name]), f"{target} has no argument '{name}'", suggest(name, options.types) or known) for name in unknown]
    return found + [Problem(place(("loss",)), f"{target} needs '{name}'", f"set outputs: {{{name}: NAME}}, or a target")
                    for name in missing]


def _check_recipe(spec: Any, keys: Keys) -> Iterator[Misfit]:
    """Yield the misfits of every `_target_` in `spec`, the outer ones first."""
    if isinstance(spec, list | tuple):
        for index, item in enumerate(spec):
            yield from _check_recipe(item, (*keys, index))
        return
    if not isinstance(spec, Mapping):
        return
    if TARGET in spec:
        target = spec[TARGET]
        try:
            options = declarations.load_options(target) if isinstance(target, str) else None
            if not isinstance(target, str):
                yield Misfit((*keys, TARGET), f"{format_value(target)} is not a dotted path")
            elif options is not None:
                yield from _check_options(options, spec, keys)
        except Undeclared as error:
            yield Misfit((*keys, TARGET), f"{target}: {error}", error.fix)
    for key, item in spec.items():
        yield from _check_recipe(item, (*keys, key))


def _check_options(options: Options, spec: Mapping[str, Any], keys: Keys) -> Iterator[Misfit]:
    for name, value in spec.items():
        if name in options.types:
            if not (isinstance(value, Mapping) and TARGET in value):
                yield from find_misfits(options.types[name], value, (*keys, name))
                least = options.least.get(name)
                if least is not None and isinstance(value, int | float) and not isinstance(value, bool) and not value >= least:
                    yield Misfit((*keys, name), f"{format_value(value)} is not {least:g} or more")
        elif name != TARGET and not options.open:
            known = f"it takes {', '.join(options.types) or 'no options'}"
            yield Misfit((*keys, name), f"{spec[TARGET]} has no option '{name}'", suggest(name, options.types) or known)
    for name in sorted(options.required - set(spec)):
        yield Misfit((*keys, name), f"is missing: {spec[TARGET]} needs it")


def _place_misfits(found: Iterator[Misfit], place: Place) -> list[Problem]:
    return [Problem(place(misfit.keys), misfit.cause, misfit.fix) for misfit in found]
