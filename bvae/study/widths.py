"""Networks of several widths: a block that lists `widths` has each of its recipes once for each of them."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import NamedTuple

from bvae.study.runs import expand_runs

AT = "learning_rate_at"
SIZES = ("hidden", "width", "max_width", "neck")  # of a network; they grow alike


def expand_widths(config: dict) -> Iterator[str]:
    """Replace the recipes of blocks with `widths` by <recipe>-w<width> in a study that fits the schema.

    Yields what is wrong. A recipe's own width is its `width`, or without one its first hidden layer: all sizes are
    multiplied by the same number and rounded. Its `learning_rate_at` gives the rates at other widths.
    """
    recipes, plain = config["recipes"], set()
    asked: dict[str, dict[int, None]] = {}
    config["blocks"] = [dict(block) for block in config["blocks"]]  # YAML's aliases are one object
    for index, block in enumerate(config["blocks"]):
        widths = block.pop("widths", None)
        if widths is None:
            plain |= {*block["recipes"]}
            continue
        for name in block["recipes"]:
            asked.setdefault(name, {}).update(dict.fromkeys(widths))
            if not own_width(recipes[name]["network"]):
                yield f"blocks[{index}].widths: recipe {name} has no width to start from. Give it a hidden layer"
        block["recipes"] = [name_of(name, width) for name in block["recipes"] for width in widths]
    for name in recipes.keys() - asked.keys() | plain:
        if AT in recipes[name]["training"]:
            yield f"recipes.{name}.training.{AT}: only blocks with widths use it, another has this recipe. Remove it"
    for name, widths in asked.items():
        recipe = recipes[name] if name in plain else recipes.pop(name)
        yield from _misfits(name, recipe, widths)
        for width in widths if own_width(recipe["network"]) else ():
            if (new := name_of(name, width)) in recipes:
                yield f"recipes.{new}: is what recipe {name} is called at width {width}. Call it otherwise"
            recipes[new] = _at(recipe, width)


def name_of(recipe: str, width: int) -> str:
    """What a recipe is called at a width.

    >>> name_of("mlp", 256)
    'mlp-w256'
    """
    return f"{recipe}-w{width}"


def without_width(recipe: str) -> tuple[str, str]:
    """The name of a recipe, and what a width has added to it.

    >>> without_width("mlp-w256"), without_width("mlp")
    (('mlp', '-w256'), ('mlp', ''))
    """
    name = re.sub(r"-w\d+\Z", "", recipe)
    return name, recipe.removeprefix(name)


def own_width(network: dict) -> int:
    """The width that a recipe's `network` has: its feature maps, or the units of its first hidden layer, or 0."""
    return network.get("width") or next(iter(network["hidden"]), 0)


def _at(recipe: dict, width: int) -> dict:
    """The recipe with its network, and its learning rate, at a width."""
    found = deepcopy(recipe)
    network, training = found["network"], found["training"]
    share = width / own_width(recipe["network"])
    for key in SIZES:
        if key in network:
            sizes = network[key]
            network[key] = [_size(share, of) for of in sizes] if isinstance(sizes, list) else _size(share, sizes)
    training["learning_rate"] = training.pop(AT, {}).get(f"w{width}", training["learning_rate"])
    return found


def _size(share: float, size: int) -> int:
    return max(1, int(share * size + 0.5))


def _misfits(name: str, recipe: dict, widths: dict[int, None]) -> Iterator[str]:
    """Rates that have no width."""
    wanted = [f"w{width}" for width in widths]
    for key in recipe["training"].get(AT, {}):
        if key not in wanted:
            place = f"recipes.{name}.training.{AT}"
            yield f"{place}: {key}, expected one of {', '.join(wanted)}, the widths of the blocks. Remove it"


class Series(NamedTuple):
    """Recipes of a study that differ in the size of their network, and perhaps in the learning rate."""

    name: str  # of the first recipe, less its width
    dataset: str
    latent_dim: int
    recipes: dict[int, str]  # by width, the least first


def series_of(study: dict) -> list[Series]:
    """The series of two sizes or more in a checked study, whatever its recipes are called.

    Only where several recipes of the same settings have the same width, those of a series have the same name, less the
    width. What is then still not clear is in no series, see `shared_widths`.
    """
    series = []
    for (dataset, latent_dim), by_width in _alike(study):
        for name, recipes in _split(by_width).items():
            if len(recipes) > 1 and all(len(names) == 1 for names in recipes.values()):
                of_width = {width: recipes[width][0] for width in sorted(recipes)}
                series.append(Series(name, dataset, latent_dim, of_width))
    return series


def shared_widths(study: dict) -> list[str]:
    """The recipes of a checked study that would be in a series, if no other recipe had the same settings and width."""
    in_series = {
        (found.dataset, found.latent_dim, name) for found in series_of(study) for name in found.recipes.values()
    }
    left: dict[str, None] = {}
    for place, by_width in _alike(study):
        if len(by_width) > 1:
            names = [name for width in sorted(by_width) for name in by_width[width]]
            left |= {name: None for name in names if (*place, name) not in in_series}
    return sorted(left)


def _alike(study: dict) -> list[tuple[tuple[str, int], dict[int, list[str]]]]:
    """For each data set and latent dimension, the recipes that differ only in size and rate, by width."""
    found: dict[str, dict[int, list[str]]] = {}
    for recipe, dataset, latent_dim in dict.fromkeys(
        (run["recipe"], run["dataset"], run["latent_dim"]) for run in expand_runs(study)
    ):
        settings = deepcopy(study["recipes"][recipe])
        width = own_width(settings["network"])
        hidden = len(settings["network"]["hidden"])
        for key in SIZES:
            settings["network"].pop(key, None)
        del settings["training"]["learning_rate"]
        key = json.dumps([dataset, latent_dim, hidden, settings], sort_keys=True)
        found.setdefault(key, {}).setdefault(width, []).append(recipe)
    return [(tuple(json.loads(key)[:2]), by_width) for key, by_width in found.items()]


def _split(by_width: dict[int, list[str]]) -> dict[str, dict[int, list[str]]]:
    """Recipes by the name of their series and by width: one series, or where widths are shared one for each name."""
    shared = any(len(recipes) > 1 for recipes in by_width.values())
    first = min(by_width)
    found: dict[str, dict[int, list[str]]] = {}
    for width, recipes in by_width.items():
        for recipe in recipes:
            name = _less_width(recipe, width) if shared else _less_width(by_width[first][0], first)
            found.setdefault(name, {}).setdefault(width, []).append(recipe)
    return found


def _less_width(recipe: str, width: int) -> str:
    return re.sub(rf"[-_]?w?{width}\Z", "", recipe) or recipe
