"""The claims that a study of protocol 2 registers: where each is about, and what is wrong with them."""

from collections.abc import Iterable, Iterator, Mapping

from bvae.arms import ARMS
from bvae.study.runs import GROUP, expand_runs, protocol_of

CLASSIFIERS = ("classifier", "classifier2", "classifier3")  # of three seeds, by which distances are judged
IMPORTANCE_SAMPLES = (1, 10, 100, 1000)
IMPORTANCE_IMAGES = 2_000  # at least: the standard error over images then allows a verdict
JUDGED_TASKS = ("reconstruction", "elbo", "classification", "generation", "interpolation")  # of protocol 2
COMPARED = ("matches", "outperforms")  # tests that compare two arms at a task
PAPER_PLACE = ("mnist", 128)  # data set and latents of the two accuracies of a linear probe in the paper's abstract
PAPER_NUMBERS = {"bvae": 0.9732, "vae": 0.952}
MOST_CLAIMS = 10  # besides the primary one


def set_defaults(config: dict) -> None:
    """Fill in what protocol 2 asks for where a study does not say: its features and its importance samples."""
    if config.get("protocol") != 2:
        return
    config.setdefault("features", list(CLASSIFIERS))
    for recipe in config["recipes"].values():
        importance = recipe.setdefault("importance", {})
        importance.setdefault("samples", list(IMPORTANCE_SAMPLES))
        importance.setdefault("images", IMPORTANCE_IMAGES)


def expand_claims(study: dict) -> list[dict]:
    """The registered claims of a checked study, each about one data set, recipe and latent dimension.

    Dicts of test, task (None where the test has none), arms, dataset, recipe and latent_dim, in the study's order. The
    first is the primary claim.
    """
    places = _arms_by_place(study)
    return [
        {"test": claim["test"], "task": claim.get("task"), "arms": claim["arms"]} | dict(zip(GROUP, place, strict=True))
        for claim in study.get("claims", [])
        for place in _named(claim, places)
    ]


def _arms_by_place(study: dict) -> dict[tuple, set[str]]:
    """The arms of each data set, recipe and latent dimension of a study."""
    found: dict[tuple, set[str]] = {}
    for run in expand_runs(study):
        found.setdefault(tuple(run[key] for key in GROUP), set()).add(run["arm"])
    return found


def _named(claim: dict, places: Iterable[tuple]) -> list[tuple]:
    """Where a claim is judged: each place that it names."""
    return [place for place in places if all(claim.get(key, at) == at for key, at in zip(GROUP, place, strict=True))]


def faults_of_claims(study: dict) -> Iterator[str]:
    """What is wrong with the claims of a study, whose defaults are filled in, and with what protocol 2 needs."""
    if protocol_of(study) == 1:
        if "claims" in study and study["tuning"]:
            yield "claims: a study of tuning judges none. Remove them"
        elif "claims" in study:
            yield "claims: belong to protocol 2, and this study is of protocol 1. Add `protocol: 2`"
        return
    if study["tuning"]:
        yield "protocol: 2 is for studies whose claims are judged, and this one is for tuning. Remove the key"
        return
    if missing := [name for name in CLASSIFIERS if name not in study["features"]]:
        yield f"features: {', '.join(missing)} is missing: protocol 2 judges distances over {', '.join(CLASSIFIERS)}"
    for name, recipe in study["recipes"].items():
        if (images := recipe["importance"]["images"]) < IMPORTANCE_IMAGES:
            yield f"recipes.{name}.importance.images: {images}, expected at least {IMPORTANCE_IMAGES:,} by protocol 2"
    places = _arms_by_place(study)
    for index, claim in enumerate(study.get("claims", [])):
        for fault in _faults(claim, places):
            yield f"claims[{index}]: {fault}"
    if "claims" not in study:
        return
    if len(found := _named(study["claims"][0], places)) > 1:
        several = [key for key, values in zip(GROUP, zip(*found, strict=True), strict=True) if len(set(values)) > 1]
        yield (
            f"claims[0]: is about {len(found)} places, expected one, because it is the primary claim. Add"
            f" {' or '.join(several)}"
        )
    judged = [tuple(map(str, claim.values())) for claim in expand_claims(study)]
    if (more := len(judged) - 1) > MOST_CLAIMS:
        yield (
            f"claims: {more} besides the primary one, expected at most {MOST_CLAIMS}, because each makes the others"
            " harder to show. A claim without a place is one for each data set, recipe and latent dimension"
        )
    for claim in sorted({claim for claim in judged if judged.count(claim) > 1}):
        yield f"claims: {' '.join(claim)} is registered twice"


def _faults(claim: dict, places: Mapping[tuple, set[str]]) -> Iterator[str]:
    compared = claim["test"] in COMPARED
    if not compared and "task" in claim:
        yield f"task: {claim['task']} has no meaning for {claim['test']}. Remove it"
    if compared and "task" not in claim:
        yield f"task is missing: expected what the arms are compared at by {claim['test']}"
    if claim["test"] == "paper_numbers" and claim["arms"] != ["bvae", "vae"]:
        yield f"arms: {claim['arms']}, expected [bvae, vae], whose numbers the paper gives"
    found = _named(claim, places)
    if not found:
        named = ", ".join(f"{key} {claim[key]}" for key in GROUP if key in claim)
        yield f"no run of the study has {named}. Expected what a block names"
    for dataset, recipe, latent_dim in found:
        arms = places[dataset, recipe, latent_dim]
        where = f"{dataset}, {recipe}, z{latent_dim}"
        missing = [arm for arm in claim["arms"] if arm not in arms]
        for arm in missing:
            yield f"{where} has no run of {arm}. Add the arm to its block, or name another place"
        if claim["test"] == "paper_numbers" and (dataset, latent_dim) != PAPER_PLACE:
            yield f"{where}: expected mnist, z128, of which the paper gives numbers"
        narrowed = claim["arms"][0] in ARMS["vae_narrow"].as_large_as
        if compared and not missing and narrowed and claim["arms"][1] == "vae" and "vae_narrow" not in arms:
            yield (
                f"{where} has no run of vae_narrow. Add it: without a VAE of equal size, a comparison with the matched"
                " VAE does not tell tying from a smaller network"
            )
