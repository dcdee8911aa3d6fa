"""The tables of a study that protocol 2 judges: its registered claims, and all comparisons without a verdict."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import pandas as pd
from numpy.typing import NDArray

from bvae.arms import ARMS
from bvae.evaluation.per_image import read_per_image
from bvae.report.figures._page import save_figure
from bvae.report.judgement import NOT_JUDGED, PerImage, describe_study, errors_by, errors_of, judge_study
from bvae.report.made_from import Plan, made_from, note_made_from
from bvae.report.outdated import tell_shared_widths
from bvae.report.size_curves import draw_sizes
from bvae.report.sizes import measure_sizes
from bvae.report.tables import arms_in_words, collect_runs, count_of_seeds, place_in_words, provenance
from bvae.report.typeset import Table, interval, markdown, number, to_markdown, write_table
from bvae.report.verdicts import NOT_REPRODUCED
from bvae.study.runs import found_results, is_record, per_image_path, run_name
from bvae.study.widths import series_of
from bvae.system.files import write_text

HEADING = (
    "Protocol 2, under our disclosed settings: the paper's hyperparameters are not available, so a claim that is not"
    " reproduced here is no evidence of an error there. Differences are of means over seeds, positive where the first"
    " arm is worse, with Welch's intervals. The primary claim is judged at 5 %. If it is reproduced, the registered"
    " claims are judged together, by Holm's correction; otherwise they are not judged."
)
MATCHES = (
    "'Matches' means not worse by the margin or more (non-inferiority); it does not mean equal. 'Depends' means that"
    " another way to measure the task gives the opposite verdict. 'Narrow VAE' is the verdict of the same claim on the"
    " VAE of equal size."
)
NONE_REGISTERED = "This study registers no claims, so nothing is judged. Its comparisons are described."
DESCRIBED = (
    "Every arm compared with the matched VAE and with the VAE of equal size, tied arms with VAEs of other sizes, too,"
    " and the arms of each claim. There are no verdicts here, because a study can judge only the few claims that were"
    " registered before its runs. Differences are positive where the first arm is worse. The interval is over seeds;"
    " standard errors are over seeds, over test images, and over both."
)


OF_SIZES = (
    "Each arm with one set of weights against ordinary VAEs, by the ELBO on test images in nats: the difference of"
    " means over seeds, positive where the arm is worse, with Welch's 95 % interval. Equal count: the VAE of as many"
    " parameters. Equal width: the matched VAE, of about twice as many. Per doubling: how the difference changes as the"
    " width doubles. Needed share: the 95 % interval of the share of a VAE's parameters with which the arm is as good,"
    " from the VAEs that were trained; it ends at trained shares only. There are no verdicts here."
)


def write_judgement(study: dict, folder: Path, root: Path = Path(), *, known: Sequence[Mapping] | None = None) -> None:
    """Write claims.{csv,tex,html,json,md} and comparisons.{csv,tex,html,json} of a checked study into `folder`.

    Of a study with networks of several sizes, also sizes.{csv,tex,html,json,svg,png}. `known` are lines of comparisons
    with the errors over images of a published study, whose values of images are not at hand.
    """
    plan = Plan(study, root)
    begun = made_from(plan, "claims")
    rows = collect_runs(study, "claims", root)
    title, facts = study["title"] or study["study"], provenance(study, rows, root)
    errors = errors_by(_per_image(study, root)) if known is None else errors_of(known)
    judged, notes = judge_study(study, rows, errors), [HEADING, MATCHES]
    if not judged:
        notes = [NONE_REGISTERED]
    claims = _table("claims", f"{title}: the registered claims, judged by protocol 2.", judged, _claim, notes)
    write_table(claims, folder, facts)
    body = [f"# Claims: {markdown(title)}", *notes, *([to_markdown(claims.text)] if judged else [])]
    write_text(folder / "claims.md", "\n\n".join(body).rstrip() + "\n")
    described = describe_study(study, rows, errors)
    caption = f"{title}: all comparisons, without verdicts."
    write_table(_table("comparisons", caption, described, _comparison, [DESCRIBED]), folder, facts)
    tell_shared_widths(study)
    if series := series_of(study):
        caption = f"{title}: the comparison with VAEs by the size of the network."
        write_table(_table("sizes", caption, measure_sizes(study, rows), _size, [OF_SIZES]), folder, facts)
        save_figure(partial(draw_sizes, series, rows), folder / "sizes")
    note_made_from(plan, "claims", begun)


def _per_image(study: dict, root: Path) -> PerImage:
    """The values of each test image of a run, by the row of its results, each file read once; none of a record."""
    paths = found_results(study, root)

    @cache
    def read(name: str) -> dict[str, NDArray]:
        if is_record(paths[name]):
            return {}
        values = read_per_image(root / per_image_path(paths[name])).values
        return {key: tensor.numpy() for key, tensor in values.items()}

    return lambda row: read(run_name(row))


def _table(
    name: str, caption: str, lines: Sequence[dict], shown: Callable[[dict], dict[str, str]], notes: Sequence[str]
) -> Table:
    frame = pd.DataFrame(lines if lines else [], columns=None if lines else ["dataset", "recipe", "latent_dim"])
    text = pd.DataFrame([shown(row) for row in lines], columns=None if lines else ["Data set"])
    words = list(text).index("n") if lines else 1
    return Table(name, caption, frame, text, words, notes)


def _claim(row: dict) -> dict[str, str]:
    """A line of the claims as it is printed."""
    return {
        "Claim": row["text"],
        "Role": row["role"],
        "Verdict": row["verdict"],
        "Data set": place_in_words(row),
        "Metric": row["metric"],
        "n": " / ".join(_runs(row, index) for index in (1, 2)),
        "Difference": number(row, "difference"),
        "95 %": interval(row, "interval_95"),
        "90 %": interval(row, "interval_90"),
        "Margin": number(row, "margin"),
        "p (Holm)": "" if row["verdict"] == NOT_JUDGED else number(row, _decisive(row), ".3g"),
        "Narrow VAE": row["control_verdict"] or "",
        "Note": row["note"],
    }


def _comparison(row: dict) -> dict[str, str]:
    """A line of the comparisons as it is printed."""
    return {
        "Data set": place_in_words(row),
        "Arms": arms_in_words(row),
        "Task": row["task"],
        "Metric": row["metric"],
        "n": f"{row['n_1']} / {row['n_2']}",
        "Means": " / ".join(number(row, f"mean_{index}") for index in (1, 2)),
        "Difference": number(row, "difference"),
        "95 %": interval(row, "interval_95"),
        "SE seeds": number(row, "error_seeds", ".2g"),
        "SE images": number(row, "error_images", ".2g"),
        "SE both": number(row, "error_seeds_and_images", ".2g"),
    }


def _size(row: dict) -> dict[str, str]:
    """A line of the sizes as it is printed."""
    each = row["width"] is not None
    line = {
        "Data set": row["dataset"],
        "Network": f"{row['series']}, z{row['latent_dim']}",
        "Arm": ARMS[row["arm"]].label,
        "Width": str(row["width"]) if each else "per doubling",
        "n": count_of_seeds(row) if each else "",
        "Parameters": f"{row['parameters']:,}" if each else "",
    }
    for what, heading in (("equal_count", "Equal count"), ("equal_width", "Equal width")):
        line |= {heading: number(row, what, ".2f"), f"{heading} 95 %": interval(row, what, ".2f")}
    return line | {"Shares trained": row.get("shares", ""), "Needed share": row.get("needed_share", "")}


def _decisive(row: dict) -> str:
    """The p-value that the verdict comes from."""
    return "p_reverse_holm" if row["verdict"] == NOT_REPRODUCED else "p_holm"


def _runs(row: dict, index: int) -> str:
    """How many runs of an arm count, and how many do not because they diverged or have no number."""
    lost, finished = row[f"lost_{index}"], row[f"runs_{index}"] - row[f"lost_{index}"]
    counted = row.get(f"n_{index}", math.nan)
    empty = 0 if math.isnan(counted) else finished - int(counted)
    text = count_of_seeds({"n": finished - empty, "diverged": lost})
    return f"{text} ({empty} without a number)" if empty else text
