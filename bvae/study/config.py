"""Studies: what a file of config/ may say, and the runs that it means."""

import difflib
import sys
from collections.abc import Collection, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

from bvae.architectures import ARCHITECTURES
from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.evaluation.extractors import EXTRACTORS
from bvae.system.files import read_yaml

# JSON Schema takes 8.0 for an integer, and .nan and .inf for numbers.
VALIDATOR = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
            "number": lambda _, value: (
                isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
            ),
        }
    ),
)


OF_SOME_ARCHITECTURES = sorted({key for found in ARCHITECTURES.values() for key in (*found.needs, *found.takes)})


class ConfigError(InputError):
    """Every fault of a study's configuration, one line each."""


@cache
def load_schema() -> dict:
    """Read the schema of a study, schema.yaml of this package, with the names of what there is."""
    schema = read_yaml(Path(__file__).with_name("schema.yaml"))
    schema["properties"]["blocks"]["items"]["properties"]["arms"]["items"]["enum"] = list(ARMS)
    recipe = schema["properties"]["recipes"]["additionalProperties"]["properties"]
    recipe["training"]["properties"]["learning_rate"]["propertyNames"]["enum"] = list(ARMS)
    recipe["network"]["properties"]["architecture"]["enum"] = list(ARCHITECTURES)
    schema["properties"]["features"]["items"]["enum"] = list(EXTRACTORS)
    return schema


def known_datasets(workflow: Path) -> list[str] | None:
    """The data sets of a workflow folder: the published ones and the user's own; None where there is no such folder."""
    table, own = workflow / "datasets.yaml", workflow / "rules/datasets"
    return sorted({*read_yaml(table), *(path.stem for path in own.glob("*.smk"))}) if table.exists() else None


def check_study(config: Any, *, datasets: Collection[str] | None) -> dict:
    """Return a copy of `config` with defaults filled in, or raise ConfigError that names every fault at once.

    With `datasets` None, any name of a data set is taken.
    """
    schema = load_schema()
    faults = [fault for error in VALIDATOR(schema).iter_errors(config) for fault in _explain(error)]
    faults += list(_unknown_names(config, datasets))
    if not faults:
        config = _with_defaults(deepcopy(config), schema)
        faults += list(_misfits(config))
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError("\n".join([f"The configuration has {count}:", *(f"  - {fault}" for fault in faults)]))
    return config


def suggest(name: object, known: Collection[str]) -> str:
    """The nearest known name, or all of them.

    >>> suggest("mnits", ["digits", "mnist"])
    "Did you mean 'mnist'?"
    """
    names = sorted(map(str, known))
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"Did you mean {_shown(near[0])}?" if near else f"Known: {', '.join(map(_plain, names))}."


def _plain(value: object) -> str:
    """A value on one line: what cannot be printed is escaped, and of what is long the beginning is shown."""
    text = str(value) if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _shown(value: object) -> str:
    return f"'{_plain(value)}'" if isinstance(value, str) and value.isprintable() else _plain(value)


def _place(path: Collection) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_plain(part)}" for part in path)
    return text.lstrip(".") or "top level"


def _explain(error: jsonschema.ValidationError) -> Iterator[str]:
    place = _place(error.absolute_path)
    value = error.instance
    match error.validator:
        case "additionalProperties":
            known = error.schema.get("properties", {})
            for key in value:
                if key not in known:
                    yield f"{place}: unknown key {_shown(key)}. {suggest(key, known)}"
        case "required":
            for key in error.validator_value:
                if key not in value:
                    yield f"{place}: '{key}' is missing"
        case "enum":
            yield f"{place}: {_shown(value)} is not known. {suggest(value, error.validator_value)}"
        case "type":
            kinds = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
            hint = ""
            if "number" in kinds and isinstance(value, str):
                hint = " (YAML reads 1e-3 as text: write 1.0e-3 or 0.001)"
            yield f"{place}: expected {' or '.join(kinds)}, got {_shown(value)}{hint}"
        case "pattern":
            yield f"{place}: {_shown(value)} is not a name: use lower-case letters, digits, '_' and '-'"
        case "uniqueItems":
            yield f"{place}: an entry stands twice in {_shown(value)}"
        case "minItems" | "minProperties":
            yield f"{place}: is empty; it needs at least {error.validator_value}"
        case "minimum" | "maximum" | "exclusiveMinimum":
            bound = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}[error.validator]
            yield f"{place}: {_shown(value)}, wanted {bound} {error.validator_value}"
        case _:
            yield f"{place}: {_plain(error.message)}"


def _unknown_names(config: object, datasets: Collection[str] | None) -> Iterator[str]:
    """Names that the schema cannot know: data sets (rule files) and recipes (keys of the same file)."""
    if not isinstance(config, dict):
        return
    blocks, recipes = config.get("blocks"), config.get("recipes")
    for index, block in enumerate(blocks if isinstance(blocks, list) else []):
        if not isinstance(block, dict):
            continue
        for key, known in (("datasets", datasets), ("recipes", recipes if isinstance(recipes, dict) else ())):
            names = block.get(key)
            for position, name in enumerate(names if isinstance(names, list) else []):
                if isinstance(name, str) and known is not None and name not in known:
                    where = (
                        "workflow/datasets.yaml or rules/datasets/" if key == "datasets" else "'recipes' of this study"
                    )
                    yield f"blocks[{index}].{key}[{position}]: no {_shown(name)} in {where}. {suggest(name, known)}"


def _misfits(config: dict) -> Iterator[str]:
    """Settings that do not belong together."""
    arms_of: dict[str, set[str]] = {name: set() for name in config["recipes"]}
    for block in config["blocks"]:
        for name in block["recipes"]:
            arms_of[name].update(block["arms"])
    for name, recipe in config["recipes"].items():
        network, likelihood = recipe["network"], recipe["likelihood"]
        architecture = ARCHITECTURES[network["architecture"]]
        place = f"recipes.{name}.network"
        for key in architecture.needs:
            if key not in network:
                yield f"{place}: '{key}' is missing ({architecture.name} needs it)"
        known = {*architecture.needs, *architecture.takes}
        for key in OF_SOME_ARCHITECTURES:
            if key in network and key not in known:
                others = [found.name for found in ARCHITECTURES.values() if key in (*found.needs, *found.takes)]
                yield (
                    f"{place}: '{key}' means nothing in architecture {architecture.name}; remove it, or use"
                    f" {' or '.join(others)}"
                )
        objective = recipe["objective"]
        if objective["name"] == "iwae":
            if "samples" not in objective:
                yield f"recipes.{name}.objective: 'samples' is missing (iwae needs it)"
            if objective["beta"] != 1:
                yield f"recipes.{name}.objective: 'beta' means nothing for iwae; remove it"
        elif "samples" in objective:
            yield f"recipes.{name}.objective: 'samples' belongs to 'iwae', not to '{objective['name']}'"
        if likelihood["name"] != "gaussian":
            for key in ("sigma", "learned"):
                if key in likelihood:
                    yield f"recipes.{name}.likelihood: '{key}' belongs to 'gaussian', not to '{likelihood['name']}'"
        rates = recipe["training"]["learning_rate"]
        for arm in sorted(arms_of[name] - rates.keys()) if isinstance(rates, dict) else ():
            yield f"recipes.{name}.training.learning_rate: '{arm}' is missing, which a block runs by this recipe"
    used = {recipe for block in config["blocks"] for recipe in block["recipes"]}
    for name in config["recipes"].keys() - used:
        yield f"recipes.{name}: no block uses it; remove it, or name it in a block"


def _with_defaults(value: Any, schema: dict) -> Any:
    """Fill in the defaults of a schema's properties, nested ones too."""
    if isinstance(value, dict):
        for key, sub in schema.get("properties", {}).items():
            if key not in value and "default" in sub:
                value[key] = deepcopy(sub["default"])
        for key in value:
            sub = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            if isinstance(sub, dict):
                value[key] = _with_defaults(value[key], sub)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        value[:] = [_with_defaults(item, schema["items"]) for item in value]
    return value
