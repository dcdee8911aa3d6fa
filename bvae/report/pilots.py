"""Pilots: studies of the matched VAE alone, from which a margin knows how far seeds spread."""

import json
import math
import re
from collections.abc import Iterator

from bvae.errors import InputError
from bvae.evaluation.metrics import run_metrics
from bvae.report.verdicts import MINIMUM_SEEDS
from bvae.study.config import is_name, suggest
from bvae.study.runs import expand_runs, training_settings
from bvae.system.files import sha256_of_json


def pilot_key(recipe: dict) -> str | None:
    """Eight hex digits of what the VAEs of a checked recipe are trained by, or None if it has no rate for a VAE.

    Another version of the code has the same key, and so has 1.0 where 1 was written.
    """
    rate = recipe["training"]["learning_rate"]
    if isinstance(rate, dict) and "vae" not in rate:
        return None
    settings = json.loads(json.dumps(training_settings(recipe, "vae")), parse_int=float)
    return sha256_of_json(settings)[:8]


def pilots_of(pilots: list[dict], study: dict) -> list[dict]:
    """The pilots of a checked study's networks, each with the name that the study gives to their recipe.

    A pilot is of a recipe by its settings: by its name it could lend the spread of another network.
    """
    keys = {name: pilot_key(recipe) for name, recipe in study["recipes"].items()}
    places = dict.fromkeys((run["recipe"], run["dataset"], run["latent_dim"]) for run in expand_runs(study))
    return [
        pilot | {"recipe": recipe}
        for pilot in pilots
        for recipe, *place in places
        if [keys[recipe], *place] == [pilot["settings"], pilot["dataset"], pilot["latent_dim"]]
    ]


def check_pilots(pilots: list[dict], study: dict) -> None:
    """Raise InputError when a run of a checked study has a seed that a margin came from.

    A pilot itself is no fault: where only the matched VAE runs, nothing is judged.
    """
    for pilot in pilots_of(pilots, study):
        place = {key: pilot[key] for key in ("recipe", "dataset", "latent_dim")}
        runs = [run for run in expand_runs(study) if place.items() <= run.items()]
        if {run["arm"] for run in runs} <= {"vae"}:
            continue
        for run in runs:
            if run["seed"] in pilot["seeds"]:
                raise InputError(
                    f"the claims file: the pilot of {pilot['metric']} on {pilot['dataset']}, {pilot['recipe']}, z"
                    f"{pilot['latent_dim']} used seed {run['seed']}, which study '{study['study']}' runs too. A margin"
                    " must not come from runs that it judges: give the study other seeds."
                )


def faults_of_pilot(pilot: dict) -> Iterator[str]:
    """What is wrong with an entry under `pilots` of the claims file."""
    wanted = {"metric", "dataset", "recipe", "latent_dim", "settings", "sd", "seeds"}
    if pilot.keys() != wanted:
        yield f"found the keys {sorted(map(str, pilot))}, wanted {sorted(wanted)}"
        return
    if not isinstance(pilot["metric"], str) or pilot["metric"] not in run_metrics():
        yield f"metric '{pilot['metric']}' is not known. {suggest(pilot['metric'], run_metrics())}"
    for key in ("dataset", "recipe"):
        if not is_name(pilot[key]):
            yield f"{key} is {pilot[key]!r}, wanted its name"
    if not _is_count(pilot["latent_dim"]):
        yield f"latent_dim is {pilot['latent_dim']!r}, wanted an integer"
    if not isinstance(pilot["settings"], str) or not re.fullmatch("[0-9a-f]{8}", pilot["settings"]):
        yield f"settings are {pilot['settings']!r}, wanted the 8 hex digits of pilot_key, in quotes"
    if isinstance(pilot["sd"], bool) or not isinstance(pilot["sd"], int | float) or not 0 < pilot["sd"] < math.inf:
        yield f"sd is {pilot['sd']}, wanted a positive number in the metric's unit"
    seeds = pilot["seeds"]
    if not isinstance(seeds, list) or not all(map(_is_count, seeds)) or len(set(seeds)) < MINIMUM_SEEDS:
        yield f"seeds are {seeds}, wanted a list of at least {MINIMUM_SEEDS}"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
