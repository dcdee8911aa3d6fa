"""The file of the claims, config/claims.yaml: what it may say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.evaluation.metrics import run_metrics
from bvae.report.pilots import faults_of_pilot
from bvae.study.claims import COMPARED
from bvae.study.config import suggest
from bvae.study.runs import GROUP
from bvae.system.files import listed, read_yaml

TESTS = {  # what a claim of each test must say, besides id, text, test and arms, and what it may
    "parameter_cut": ({"reproduced_from", "partly_from"}, set()),
    "matches": ({"metric", "margin"}, {"otherwise", "gaussian", "confirmatory", "only"}),
    "outperforms": ({"metric", "margin"}, {"otherwise", "gaussian", "confirmatory", "only"}),
    "number": ({"metric", "value", "margin"}, {"only"}),
    "backward_noise": ({"metric"}, {"only"}),
}

KINDS: dict[str, tuple[type, ...]] = {  # of what a claim says
    **dict.fromkeys(("gaussian", "id", "metric", "otherwise", "test", "text"), (str,)),
    **dict.fromkeys(("partly_from", "reproduced_from", "value"), (int, float)),
    "arms": (list,), "confirmatory": (bool,), "only": (dict,),
}  # fmt: skip
LOG_LIKELIHOODS = ("reconstruction", "elbo", "nll")  # of a density, whose zero depends on the unit of a pixel


def load_claims(path: str | Path) -> tuple[list[dict], list[dict]]:
    """Read and check the claims and the pilots; InputError names every fault at once, before any run."""
    document = read_yaml(path)
    known = document if isinstance(document, dict) else {"claims": None}
    if "blocks" in known:
        raise InputError(
            f"{path}: found a study, expected claims and their margins, as in config/claims.yaml. A study of protocol 2"
            " has its claims in its own file, and needs no other."
        )
    lists: dict[str, Any] = {key: known.get(key, []) for key in ("claims", "pilots")}
    for key, entries in lists.items():
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(f"{path}: wanted a list of {key} under the key '{key}'")
    claims, pilots = lists.values()
    faults = [
        f"{claim.get('id', f'claims[{i}]')}: {fault}" for i, claim in enumerate(claims) for fault in _faults(claim)
    ]
    ids = [claim.get("id") for claim in claims]
    faults += [f"unknown key '{key}'. {suggest(key, lists)}" for key in known.keys() - lists.keys()]
    faults += [f"{name}: is given twice" for name in sorted({str(name) for name in ids if ids.count(name) > 1})]
    faults += [f"pilots[{i}]: {fault}" for i, pilot in enumerate(pilots) for fault in faults_of_pilot(pilot)]
    if faults:
        raise InputError(listed(f"{path} has", faults))
    return claims, pilots


def _faults(claim: dict) -> Iterator[str]:
    test = claim.get("test")
    wrong = [key for key, kind in KINDS.items() if key in claim and not isinstance(claim[key], kind)]
    for key in wrong:
        yield f"{key}: expected {' or '.join(kind.__name__ for kind in KINDS[key])}, got {claim[key]!r}"
    if wrong:
        return
    if test not in TESTS:
        yield f"test '{test}' is not known. {suggest(test, TESTS)}"
        return
    required, optional = TESTS[test]
    required = required | {"id", "text", "test", "arms"}
    for key in sorted(required - claim.keys()):
        yield f"'{key}' is missing"
    for key in sorted(claim.keys() - required - optional):
        yield f"unknown key '{key}'. {suggest(key, required | optional)}"
    for key in claim.get("only", {}).keys() - set(GROUP):
        yield f"only: unknown key '{key}'. {suggest(key, GROUP)}"
    for arm in map(str, claim.get("arms", [])):
        if arm not in ARMS:
            yield f"arm '{arm}' is not known. {suggest(arm, ARMS)}"
    wanted = 1 if test == "number" else 2
    if len(claim.get("arms", [])) != wanted:
        yield f"wanted {wanted} arm(s), got {claim.get('arms')}"
    known = run_metrics()
    for key in ("metric", "otherwise", "gaussian"):
        if key in claim and claim[key] not in known:
            yield f"metric '{claim[key]}' is not known. {suggest(claim[key], known)}"
        elif key in claim and test in COMPARED and known[claim[key]].better is None:
            yield f"expected a metric of which lower or higher values are better, got '{claim[key]}'"
    margin = claim.get("margin")
    if margin is not None and (
        not isinstance(margin, dict)
        or len(margin.keys() & {"absolute", "relative"}) != 1
        or not margin.keys() <= {"absolute", "relative", "pilot_sds"}
        or not all(isinstance(value, int | float) and value > 0 for value in margin.values())
    ):
        yield (
            f"margin is {margin}, wanted either absolute: or relative: with a positive number. Add pilot_sds: if it"
            " must be at least this many standard deviations of a pilot"
        )
    elif margin and test == "number" and "absolute" not in margin:
        yield f"margin is {margin}, wanted absolute:, in the unit of {claim.get('metric')}, about the number"
    elif margin and "relative" in margin and claim.get("metric") in LOG_LIKELIHOODS and "gaussian" not in claim:
        yield (
            f"'gaussian' is missing: a log-density has no natural zero, so a share of {claim['metric']} is no margin."
            " Name the metric to take under a Gaussian, such as mse_per_pixel"
        )
    elif margin and "absolute" in margin and "gaussian" in claim:
        yield (
            f"'gaussian' is given with an absolute margin, which is in the unit of {claim.get('metric')} and not of"
            f" {claim['gaussian']}. Write a relative margin, or remove 'gaussian'"
        )
