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
    """The series of two sizes or more in a checked study, whatever its recipes are called."""
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
    series = []
    for key, by_width in found.items():
        if len(by_width) > 1 and all(len(recipes) == 1 for recipes in by_width.values()):
            dataset, latent_dim, *_ = json.loads(key)
            recipes = {width: by_width[width][0] for width in sorted(by_width)}
            width, first = next(iter(recipes.items()))
            name = re.sub(rf"[-_]?w?{width}\Z", "", first) or first
            series.append(Series(name, dataset, latent_dim, recipes))
    return series
