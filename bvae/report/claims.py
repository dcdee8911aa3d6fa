"""The claims of the paper, each with a verdict: paired over seeds, with intervals and Holm's correction.

Margins and tests are in config/claims.yaml and are never moved after a run; the rules of the verdicts are here. A
difference is always counted so that positive means worse for the first arm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bvae.arms import ARMS
from bvae.evaluation.metrics import run_metrics
from bvae.report.claims_file import load_claims
from bvae.report.made_from import Plan, made_from, note_made_from
from bvae.report.pilots import check_pilots, pilots_of
from bvae.report.tables import arms_in_words, collect_runs, count_of_seeds, place_in_words, provenance
from bvae.report.typeset import Table, interval, markdown, number, to_markdown, write_table
from bvae.report.verdicts import LEVEL, MINIMUM_SEEDS, holm
from bvae.study.claims import COMPARED
from bvae.study.runs import GROUP, group_paths
from bvae.system.files import read_json, write_text

HEADING = (
    "Judged by protocol 1 (docs/protocol1.md), under our disclosed settings: the paper's hyperparameters are not"
    " available, so a claim that is not reproduced here is no evidence of an error there. Differences are paired over"
    " seeds, positive where the first arm is worse."
    f" Fewer than {MINIMUM_SEEDS} seeds are never better than inconclusive."
    " A seed at which a run of either arm diverged is not among the n."
)


@dataclass(frozen=True)
class Difference:
    """The paired difference of two arms over seeds, positive where the first is worse, with its intervals.

    `interval_90` and `interval_95` are paired t; `bootstrap_95` is BCa over the seeds (None where it cannot be formed).
    """

    n: int
    mean: float
    interval_90: tuple[float, float]
    interval_95: tuple[float, float]
    bootstrap_95: tuple[float, float] | None
    p_better: float  # two-sided p of the mean, if the arms were equal
    p_margin: float  # one-sided p, if the first arm were worse by just the margin


def paired_difference(
    first: Sequence[float], second: Sequence[float], *, better: str | None, margin: float, bootstrap: bool = True
) -> Difference:
    """Compare two arms seed by seed; `better` is "lower" or "higher", `margin` positive and in the metric's unit."""
    sign = 1 if better == "lower" else -1
    worse = sign * (np.asarray(first, float) - np.asarray(second, float))
    n, mean = len(worse), float(worse.mean()) if len(worse) else math.nan
    if n < 2:
        nothing = (math.nan, math.nan)
        return Difference(n, mean, nothing, nothing, None, math.nan, math.nan)
    error = float(worse.std(ddof=1) / math.sqrt(n))
    if error == 0:  # the same difference at every seed
        better_surely, margin_surely = (0.0 if holds else 1.0 for holds in (mean != 0, mean < margin))
        return Difference(n, mean, (mean, mean), (mean, mean), None, better_surely, margin_surely)
    from scipy.special import stdtr, stdtrit  # what scipy.stats.t calls, without what building it costs

    widths = [error * float(stdtrit(n - 1, q)) for q in (0.95, 0.975)]
    intervals = [(mean - width, mean + width) for width in widths]
    p_better = 2 * float(stdtr(n - 1, -abs(mean) / error))
    p_margin = float(stdtr(n - 1, (mean - margin) / error))
    return Difference(n, mean, intervals[0], intervals[1], _bootstrap(worse) if bootstrap else None, p_better, p_margin)


def _bootstrap(values: np.ndarray) -> tuple[float, float] | None:
    from scipy import stats

    if len(values) < 3:
        return None
    found = stats.bootstrap((values,), np.mean, confidence_level=0.95, method="BCa", rng=np.random.default_rng(0))
    low, high = found.confidence_interval
    return (float(low), float(high)) if math.isfinite(low) and math.isfinite(high) else None


def judge_match(difference: Difference, margin: float, p_adjusted: float) -> str:
    """ "matches": not worse by the margin (one-sided at 5 %, Holm-adjusted), which is the 90 % interval below it."""
    if difference.n < MINIMUM_SEEDS:
        return "inconclusive"
    if p_adjusted <= LEVEL:
        return "reproduced"
    return "not reproduced" if difference.interval_90[0] > margin else "inconclusive"


def judge_outperform(difference: Difference, margin: float, p_adjusted: float) -> str:
    """ "outperforms": 0 excluded in the first arm's favour (two-sided at 5 %, Holm-adjusted).

    Not reproduced when 0 is excluded the other way, or the arms are shown to be equivalent within the margin.
    """
    if difference.n < MINIMUM_SEEDS:
        return "inconclusive"
    if difference.mean < 0 and p_adjusted <= LEVEL:
        return "reproduced"
    low, high = difference.interval_90
    if difference.interval_95[0] > 0 or (-margin < low and high < margin):
        return "not reproduced"
    return "inconclusive"


def judge_cut(first: float, second: float, *, reproduced_from: float, partly_from: float) -> str:
    """The parameter cut 1 - first / second against its two thresholds."""
    saved = second - first
    if saved >= reproduced_from * second:
        return "reproduced"
    return "partly" if saved >= partly_from * second else "not reproduced"


# --------------------------------------------------------------------------------------------------------------------
# A study's verdicts
# --------------------------------------------------------------------------------------------------------------------


def judge_claims(
    claims: list[dict],
    rows: list[dict],
    controls: dict[str, dict],
    pilots: Sequence[dict] = (),
    *,
    bootstrap: bool = True,
) -> list[dict]:
    """A verdict for each claim in each (data set, recipe, latent dim) of a study's finished runs.

    `controls` are those of each data set, `pilots` those of the study, by `pilots_of`. Holm's correction runs over the
    confirmatory verdicts of the whole study.
    `bootstrap` intervals take most of the time and decide no verdict.
    """
    found = []
    groups = list(dict.fromkeys((row["dataset"], row["recipe"], row["latent_dim"]) for row in rows))
    for claim in claims:
        for dataset, recipe, latent_dim in groups:
            place = {"dataset": dataset, "recipe": recipe, "latent_dim": latent_dim}
            mine = [row for row in rows if all(row[key] == value for key, value in place.items())]
            if all(place[key] == value for key, value in claim.get("only", {}).items()):
                found.append({"claim": claim["id"], "text": claim["text"], **place})
                found[-1] |= _measure(claim, mine, pilots, bootstrap)
                found[-1] |= {"mean_image": controls[dataset].get("mean_image_mse_per_pixel"), "rule": claim}
    family = [i for i, entry in enumerate(found) if entry["rule"].get("confirmatory") and "difference" in entry]
    for entry in found:
        if "difference" in entry:
            entry["p"] = _p_value(entry)
            entry["p_holm"] = entry["p"]  # of its own outside the family
    for i, p in zip(family, holm([found[i]["p"] for i in family]), strict=True):
        found[i]["p_holm"] = p
    return [_conclude(entry) for entry in found]


def _p_value(entry: dict) -> float:
    difference = entry["difference"]
    return difference.p_margin if entry["rule"]["test"] == "matches" else difference.p_better


def _margin(claim: dict, metric: str, place: dict, pilots: Sequence[dict], second: Sequence[float]) -> float:
    """In the metric's unit: absolute, or a share of the second arm's mean; at least `pilot_sds` of its pilot's sd."""
    rule = claim["margin"]
    margin = rule["absolute"] if "absolute" in rule else rule["relative"] * abs(float(np.mean(second)))
    spreads = [
        pilot["sd"] for pilot in pilots if pilot["metric"] == metric and all(pilot[key] == place[key] for key in GROUP)
    ]
    return max([margin, *(rule["pilot_sds"] * sd for sd in spreads if "pilot_sds" in rule)])


def _measure(claim: dict, rows: list[dict], pilots: Sequence[dict], bootstrap: bool) -> dict:
    """The numbers that a claim is about, over the seeds at which every one of its arms finished."""
    finished = [row for row in rows if row["status"] == "finished"]
    metric = claim.get("metric", "parameters")
    if "otherwise" in claim and not any(row.get(metric) is not None for row in finished):
        metric = claim["otherwise"]
    if "gaussian" in claim and any(row.get("likelihood") == "gaussian" for row in finished):
        metric = claim["gaussian"]
    values = {
        arm: {row["seed"]: row[metric] for row in finished if row["arm"] == arm and row.get(metric) is not None}
        for arm in claim["arms"]
    }
    seeds = sorted(set.intersection(*(set(of_seed) for of_seed in values.values())))
    columns = [[values[arm][seed] for seed in seeds] for arm in claim["arms"]]
    absent = [ARMS[arm].label for arm in claim["arms"] if all(row["arm"] != arm for row in rows)]
    lost = {row["seed"] for row in rows if row["status"] != "finished" and row["arm"] in claim["arms"]}
    entry: dict = {"metric": metric, "n": len(seeds), "diverged": len(lost), "values": columns, "absent": absent}
    entry["unequal"] = unequal_sizes(claim["arms"], rows) if claim["test"] in COMPARED else None
    if claim["test"] in COMPARED and seeds and not entry["unequal"]:
        entry["margin"] = margin = _margin(claim, metric, rows[0], pilots, columns[1])
        better = run_metrics()[metric].better
        entry["difference"] = paired_difference(*columns, better=better, margin=margin, bootstrap=bootstrap)
    return entry


def unequal_sizes(arms: Sequence[str], rows: Sequence[dict]) -> str | None:
    """Why two arms that a claim compares at equal size are not of equal size."""
    first, second = (ARMS[arm] for arm in arms)
    parameters = {row["arm"]: row["parameters"] for row in rows}
    return first.unequal(second, parameters) or second.unequal(first, parameters)


def _conclude(entry: dict) -> dict:
    """One row of the claims table: flat, the verdict and what it rests on."""
    claim, columns = entry.pop("rule"), entry.pop("values")
    mean_image, difference, absent = entry.pop("mean_image"), entry.pop("difference", None), entry.pop("absent")
    unequal = entry.pop("unequal")
    row = entry | {"arms": " against ".join(claim["arms"]), "confirmatory": bool(claim.get("confirmatory"))}
    row |= {f"mean_{i + 1}": float(np.mean(column)) if column else None for i, column in enumerate(columns)}
    if not entry["n"]:
        reason = f"no runs of {' and '.join(absent)}" if absent else "no finished pair of runs has this metric"
        return row | {"verdict": "inconclusive", "reason": reason}
    if unequal:
        return row | {"verdict": "inconclusive", "reason": unequal}
    test = claim["test"]
    if test == "parameter_cut":
        verdict = judge_cut(
            columns[0][0], columns[1][0], reproduced_from=claim["reproduced_from"], partly_from=claim["partly_from"]
        )
        return row | {"verdict": verdict, "reason": f"cut of {100 * (1 - columns[0][0] / columns[1][0]):.1f} %"}
    few = entry["n"] < MINIMUM_SEEDS
    if test == "number":
        away = row["mean_1"] - claim["value"]
        near = abs(away) <= claim["margin"]["absolute"]
        verdict = "inconclusive" if few else "reproduced" if near else "not reproduced"
        return row | {"verdict": verdict, "reason": f"{row['mean_1']:.4f}, {away:+.4f} from {claim['value']}"}
    if test == "backward_noise":
        first, second = (all(value < mean_image for value in column) for column in columns)
        verdict = "inconclusive" if few else "reproduced" if first and not second else "not reproduced"
        return row | {"verdict": verdict, "reason": f"MSE of the mean training image: {mean_image:.4f}"}
    judge = judge_match if test == "matches" else judge_outperform
    row |= {"difference": difference.mean, "worse_is": "positive"}
    for name in ("interval_90", "interval_95", "bootstrap_95"):
        low, high = getattr(difference, name) or (None, None)
        row |= {f"{name}_low": low, f"{name}_high": high}
    verdict = judge(difference, entry["margin"], entry["p_holm"])
    return row | {"verdict": verdict, "reason": f"{entry['n']} seeds; fewer than {MINIMUM_SEEDS}" if few else ""}


def write_claims(study: dict, claims_path: Path, folder: Path, root: Path = Path()) -> None:
    """Write claims.{csv,tex,html,json,md} of a study into `folder`."""
    plan = Plan(study, root, claims=str(claims_path))
    begun = made_from(plan, "claims")
    claims, pilots = load_claims(claims_path)
    check_pilots(pilots, study)
    rows = collect_runs(study, "claims", root)
    controls = {group["dataset"]: read_json(root / group["controls"]) for group in group_paths(study, root)}
    frame = pd.DataFrame(judge_claims(claims, rows, controls, pilots_of(pilots, study)))
    text = pd.DataFrame([_shown(row) for row in frame.to_dict("records")])
    title, facts = study["title"] or study["study"], provenance(study, rows, root)
    table = Table("claims", f"{title}: the claims of the paper, and what became of them.", frame, text, 5, [HEADING])
    write_table(table, folder, facts)
    write_text(folder / "claims.md", f"# Claims: {markdown(title)}\n\n{HEADING}\n\n{to_markdown(text)}")
    note_made_from(plan, "claims", begun)


def _shown(row: dict) -> dict[str, str]:
    return {
        "Claim": row["text"],
        "Verdict": row["verdict"],
        "Data set": place_in_words(row),
        "Arms": arms_in_words(row),
        "Metric": row["metric"],
        "n": count_of_seeds(row),
        "Difference": number(row, "difference"),
        "Margin": number(row, "margin"),
        "90 %": interval(row, "interval_90"),
        "95 %": interval(row, "interval_95"),
        "p (Holm)": number(row, "p_holm", ".3g"),
        "Note": row["reason"],
    }
