"""Studies: what a file of config/ may say, and the runs that it means."""

import difflib
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any

import jsonschema

from bvae.architectures import ARCHITECTURES
from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.evaluation.extractors import EXTRACTORS
from bvae.study.claims import JUDGED_TASKS, faults_of_claims, set_defaults
from bvae.study.runs import expand_runs, run_name
from bvae.study.widths import expand_widths
from bvae.system.files import listed, read_json, read_yaml

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
OF_PUBLISHED = {"about", "licence", "source", "shape", "sha256", "validation"}  # what an entry of datasets.yaml may say
NAME = "use lower-case letters, digits, '_' and '-', at most 64, a letter or digit first"


class ConfigError(InputError):
    """Every fault of a study's configuration, one line each."""


@cache
def load_schema() -> dict:
    """Read the schema of a study, schema.yaml of this package, with the names of what there is."""
    schema = read_yaml(Path(__file__).with_name("schema.yaml"))
    schema["properties"]["blocks"]["items"]["properties"]["arms"]["items"]["enum"] = list(ARMS)
    claim = schema["properties"]["claims"]["items"]["properties"]
    claim["arms"]["items"]["enum"], claim["task"]["enum"] = list(ARMS), list(JUDGED_TASKS)
    recipe = schema["properties"]["recipes"]["additionalProperties"]["properties"]
    training = recipe["training"]["properties"]
    for rate in (training["learning_rate"], training["learning_rate_at"]["additionalProperties"]):
        rate["propertyNames"]["enum"] = list(ARMS)
    recipe["network"]["properties"]["architecture"]["enum"] = list(ARCHITECTURES)
    schema["properties"]["features"]["items"]["enum"] = list(EXTRACTORS)
    return schema


def is_name(name: object) -> bool:
    """Whether a name can be part of a path, in a shell, in Snakemake and in LaTeX."""
    return isinstance(name, str) and re.search(load_schema()["properties"]["study"]["pattern"], name) is not None


def known_datasets(workflow: Path) -> list[str] | None:
    """The data sets of a workflow folder: the published ones and the user's own; None where there is no such folder.

    Raises InputError for an entry that cannot be right, a name that cannot be part of a path, and a file whose data set
    is a published one.
    """
    table, own = workflow / "datasets.yaml", sorted((workflow / "rules/datasets").glob("*.smk"))
    if not table.exists():
        return None
    published = read_yaml(table)
    if not isinstance(published, dict):
        raise InputError(f"{table}: expected data sets by name, found {_shown(published)}. Get it again from git.")
    for name, entry in published.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("source"), str):
            raise InputError(f"{table}: {_shown(name)} has no 'source', expected one, as torchvision:MNIST. Add it.")
        for key in entry.keys() - OF_PUBLISHED:
            raise InputError(f"{table}: {name} has an unknown key {_shown(key)}. {suggest(key, OF_PUBLISHED)}")
        shape = entry.get("shape", [1, 1])
        if not (isinstance(shape, list) and len(shape) == 2 and all(isinstance(side, int) for side in shape)):
            raise InputError(f"{table}: {name} has the shape {_shown(shape)}, expected channels and size, as [3, 32].")
    for path in own:
        if path.stem in published:
            raise InputError(
                f"{path}: '{path.stem}' is a published data set, of {table.name}. Give the file another name."
            )
    for where, name in [*((path, path.stem) for path in own), *((table, name) for name in published)]:
        if not is_name(name):
            raise InputError(f"{where.parent}: {_shown(name)} of {_plain(where.name)} cannot name a data set: {NAME}.")
    return sorted({*published, *(path.stem for path in own)})


def check_root(folder: Path) -> None:
    """Raise InputError for a folder of the benchmark in which jobs cannot be started."""
    if found := sorted(set(str(folder)) & set(":{}")):
        raise InputError(
            f"{folder}: the path of the benchmark has {' and '.join(found)}: PYTHONPATH cannot hold a colon, and"
            " Snakemake takes braces for wildcards. Rename the folder."
        )


def check_files(files: Sequence[Path], given: Sequence[Path]) -> None:
    """Raise InputError for config files in which a line is not what it seems, or that are not one study.

    `files` are all that Snakemake merges, `given` those of --configfile: to one without a study it adds the paper's.
    """
    for path in given:
        refuse_other_file(read_yaml(path), path)
    studies = [path for path in given if "study" in (read_yaml(path) or ())]
    names = ", ".join(map(str, given))
    if len(studies) > 1:
        raise InputError(
            f"{names}: {len(studies)} studies, which Snakemake would mix. Give one; files beside it have no 'study'."
        )
    if given and len(files) > len(given):
        found = [_plain(key) for path in given for key in read_yaml(path) or ()]
        raise InputError(
            f"{names}: 'study' is missing: found {_some(found)}. Add a line `study: <name>`; {NAME}. Results are in"
            " results/studies/<name>/."
        )
    for path in files:
        read_yaml(path)


def check_interpreter(path: str) -> None:
    """Raise InputError where jobs of a cluster cannot start: Snakemake does not quote the path of Python in them."""
    if not all(sign.isalnum() or sign in "/._-+@%,:=" for sign in path):
        raise InputError(
            f"{path}: jobs of a cluster cannot start this Python, because Snakemake does not quote its path, which has"
            " a space or another special character. Use a Python, or a .venv, in a folder without any; the folder in"
            " which snakemake runs may have them."
        )


def refuse_other_file(config: Any, path: Path) -> None:
    """Raise ConfigError where what was read is another file than a study's, with what it is.

    That is a mapping that says what a result was made from, or has no key of a study but `claims`.
    """
    if not isinstance(config, dict) or not config:
        return
    if "provenance" in config:
        kind = "a result, which says what it was made from"
    elif config.keys() & (load_schema()["properties"].keys() - {"claims"}):
        return
    elif "claims" in config:
        kind = "claims of protocol 1, which the option --claims takes"
    elif "dependencies" in config:
        kind = "an environment of conda"
    elif all(isinstance(entry, dict) and "source" in entry for entry in config.values()):
        kind = "a table of data sets"
    else:
        kind = f"of another kind: found the keys {_some([*config])}"
    raise ConfigError(
        f"{path}: no study. It is {kind}. Expected a file with the keys study, blocks and recipes. Give a study, such"
        " as config/quick.yaml."
    )


def load_study(path: Path, root: Path = Path()) -> dict:
    """The checked study of a YAML or JSON file, with the data sets of the workflow below `root`.

    Raises ConfigError that names every fault at once.
    """
    config = (read_json if path.suffix == ".json" else read_yaml)(path)
    refuse_other_file(config, path)
    return check_study(config, datasets=known_datasets(root / "workflow"))


def check_study(config: Any, *, datasets: Collection[str] | None) -> dict:
    """Return a copy of `config` with defaults filled in, or raise ConfigError that names every fault at once.

    With `datasets` None, any name of a data set is taken.
    """
    schema = load_schema()
    faults = [fault for error in VALIDATOR(schema).iter_errors(config) for fault in _explain(error)]
    faults += list(_unknown_names(config, datasets))
    if not faults:
        config = deepcopy(config)
        faults += expand_widths(config)
        faults += [fault for error in VALIDATOR(schema).iter_errors(config) for fault in _explain(error)]
    if not faults:
        set_defaults(config)
        config = _with_defaults(config, schema)
        faults += [*_misfits(config), *_figures_without_runs(config), *_models_without_runs(config)]
        faults += _without_effect(config)
        faults += faults_of_claims(config)
    if faults:
        raise ConfigError(listed("The configuration has", faults))
    return config


def suggest(name: object, known: Collection[str]) -> str:
    """The nearest known name, or all of them.

    >>> suggest("mnits", ["digits", "mnist"])
    "Did you mean 'mnist'?"
    """
    names = sorted(map(str, known))
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"Did you mean {_shown(near[0])}?" if near else f"Known: {_some(names)}."


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(_plain, names[:12])) + (f" and {len(names) - 12} others" if len(names) > 12 else "")


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
            yield f"{place}: {error.message.removesuffix(' is a required property')} is missing"
        case "enum":
            quoted = isinstance(value, str) and value in map(str, error.validator_value)
            remedy = "Write it without quotes." if quoted else suggest(value, error.validator_value)
            yield f"{place}: {_shown(value)} is not known. {remedy}"
        case "type":
            kinds = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
            hint = ""
            if "number" in kinds and isinstance(value, str) and _is_number(value):
                hint = " (YAML reads 1e-3 as text: write 1.0e-3 or 0.001)"
            elif kinds == ["string"] and not isinstance(value, list | dict | NoneType):
                hint = " (put it in quotes)"
            yield f"{place}: expected {' or '.join(kinds)}, got {_shown(value)}{hint}"
        case "pattern" if error.validator_value.startswith("^w"):
            yield f"{place}: expected w and a width, as w256, got {_shown(value)}"
        case "pattern":
            yield f"{place}: {_shown(value)} is not a name: {NAME}"
        case "not":
            yield f"{place}: {_shown(value)} has a line break or a control character, wanted one line of text"
        case "maxLength":
            yield f"{place}: {_shown(value)} has {len(value)} characters, wanted at most {error.validator_value}"
        case "uniqueItems":
            yield f"{place}: an entry is given twice in {_shown(value)}"
        case "minItems" | "minProperties" if not value:
            yield f"{place}: is empty; it needs at least {error.validator_value}"
        case "minItems" | "maxItems":
            bound = "at least" if error.validator == "minItems" else "at most"
            yield f"{place}: has {len(value)} entries, wanted {bound} {error.validator_value}"
        case "minimum" | "maximum" | "exclusiveMinimum":
            bound = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}[error.validator]
            yield f"{place}: {_shown(value)}, wanted {bound} {error.validator_value}"
        case _:
            yield f"{place}: {_plain(error.message)}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
                if not isinstance(name, str):
                    continue
                if known is None and not is_name(name):
                    yield f"blocks[{index}].{key}[{position}]: {_shown(name)} is not a name: {NAME}"
                elif known is not None and name not in known:
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
        if recipe["training"]["batch_size"] == 1:
            place = f"recipes.{name}.training.batch_size: 1"
            if network["normalization"] == "batch":
                yield f"{place}, and 'normalization: batch' has no statistics of one image; choose at least 2"
            if objective["name"] == "beta_tc":
                yield f"{place}, and 'beta_tc' compares an image with the others of its batch; choose at least 2"
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


def _figures_without_runs(config: dict) -> Iterator[str]:
    """A `figure_seed` that figures could not show."""
    if (wanted := config.get("figure_seed")) is None:
        return
    if config["tuning"]:
        yield "figure_seed: means nothing in a study of tuning, which has no such figures; remove it"
        return
    yield from _not_of_all("figure_seed", wanted, expand_runs(config))


def _models_without_runs(config: dict) -> Iterator[str]:
    """`published_models` that are not of every arm, or of no run."""
    if (wanted := config.get("published_models")) is None:
        return
    runs = expand_runs(config)
    for key in ("recipe", "dataset"):
        if key not in wanted:
            continue
        there = sorted({run[key] for run in runs})
        runs = [run for run in runs if run[key] == wanted[key]]
        if not runs:
            yield f"published_models.{key}: no run is of '{wanted[key]}', expected one of {', '.join(there)}"
            return
    yield from _not_of_all("published_models.seed", wanted["seed"], runs)


def _not_of_all(key: str, wanted: int, runs: Sequence[dict]) -> Iterator[str]:
    """A seed that not every arm has in each place where `runs` compare it."""
    seeds: dict[str, set[int]] = {}
    for run in runs:
        seeds.setdefault(run_name(run).rpartition("-seed")[0], set()).add(run["seed"])
    common = set.intersection(*seeds.values())
    remedy = f"one that all have: {_numbers(common)}" if common else "blocks with a seed in common"
    for name, found in seeds.items():
        if wanted not in found:
            yield f"{key}: {wanted}, but {name} has the seeds {_numbers(found)}. Wanted {remedy}"
            return


def _without_effect(config: dict) -> Iterator[str]:
    """What is given and would change nothing."""
    for name, recipe in config["recipes"].items():
        width, most = (recipe["network"].get(key, 0) for key in ("width", "max_width"))
        if most and most < width:
            yield f"recipes.{name}.network.max_width: {most}, wanted at least the width, {width}"
    seen: set[str] = set()
    for index, block in enumerate(config["blocks"]):
        runs = {run_name(run) for run in expand_runs({"blocks": [block]})}
        if runs <= seen:
            yield f"blocks[{index}]: all of its runs are in the blocks before it; change it, or remove it"
        seen |= runs


def _numbers(found: Collection[int]) -> str:
    return _some([str(number) for number in sorted(found)])


def check_tuning(study: dict, validation_sets: Collection[str]) -> None:
    """Raise ConfigError where a checked study with `tuning: true` has a data set that holds out no training images.

    `validation_sets` are those that do, or of which it is not known: a study that tunes chooses settings, and test
    images are for its results alone.
    """
    names = dict.fromkeys(name for block in study["blocks"] for name in block["datasets"])
    if wrong := [_shown(name) for name in names if study["tuning"] and name not in validation_sets]:
        raise ConfigError(
            f"tuning: true chooses settings, and {', '.join(wrong)} would be judged by test images. Take data sets that"
            " hold out training images, as mnist_validation does: 'validation' in workflow/datasets.yaml, or"
            " `fetch --validation` in a rule of your own."
        )


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
