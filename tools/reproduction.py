"""The pages and the picture that speak of all published studies, from results/published/: `make reproduction`.

In the PAGES, what stands between `<!-- NAME study ... -->` and `<!-- end -->` is written here, NAME being one of
BLOCKS; everything else there is written by hand. The picture is results/published/overview.png.
"""

import re
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bvae.arms import ARMS
from bvae.evaluation.metrics import run_metrics
from bvae.report.claims import MINIMUM_SEEDS, judge_claims, load_claims, paired_difference
from bvae.report.figures._page import DPI, save_figure
from bvae.report.figures._plots import gain_lines
from bvae.report.pilots import pilots_of
from bvae.report.publication import shrink_picture
from bvae.report.tables import count_of_seeds
from bvae.report.tuning import printed
from bvae.report.typeset import to_markdown
from bvae.study.config import check_study
from bvae.study.runs import GROUP
from bvae.system.files import read_yaml, write_text
from tools import afterwards as after
from tools.published import FOLDERS, PUBLISHED, ROOT, place_name, read

PAGES = ("docs/reproduction.md", "docs/protocol1.md", "README.md")
BLOCK = re.compile(r"(?P<head><!-- (?P<name>\w+)(?P<studies>(?: \w+)+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
COLUMNS = {  # of table1.csv: header, decimals, factor
    "reconstruction": ("Reconstruction, nats ↓", 2, 1),
    "elbo": ("ELBO, nats ↑", 2, 1),
    "fd_classifier_samples": ("FD samples ↓", 1, 1),
    "fd_classifier_interpolations": ("FD midpoints ↓", 1, 1),
    "probe_accuracy": ("Probe, % ↑", 2, 100),
}
# A panel of the picture: the claim whose margin is shown, and the unit; a share is of the matched VAE's mean.
PANELS = {
    "reconstruction-matches": ("Reconstruction", "%", None),
    "elbo-matches": ("ELBO", "nats", 1.0),
    "classification-matches": ("Linear probe", "points", 100.0),
    "interpolation-matches": ("Interpolation, FD", "%", None),
    "generation-matches": ("Generation, FD", "%", None),
}


def arms(*studies: str) -> str:
    """The four tasks by arm: mean ± standard deviation over seeds."""
    lines = []
    for row in pd.concat([read(study, "tables/table1.csv") for study in studies]).to_dict("records"):
        if row["arm"] in ARMS:
            line = {"Data set": place_name(row), "Arm": ARMS[row["arm"]].label, "n": count_of_seeds(row)}
            line["Parameters"] = f"{row['parameters']:,.0f}"
            for column, (header, decimals, factor) in COLUMNS.items():
                value, spread = (row[name] * factor for name in (column, f"{column}_sd"))
                line[header] = f"{value:.{decimals}f} ± {spread:.{decimals}f}"
            lines.append(line)
    return to_markdown(pd.DataFrame(lines))


def verdicts(*studies: str) -> str:
    """The claims of the paper and what became of them."""
    lines = []
    for row in pd.concat([read(study, "claims.csv") for study in studies]).to_dict("records"):
        compared = not pd.isna(row["difference"])
        interval = f"{row['difference']:.3g} [{row['interval_95_low']:.3g}, {row['interval_95_high']:.3g}]"
        lines.append(
            {
                "Claim": row["text"],
                "Data set": place_name(row),
                "Verdict, protocol 1": f"**{row['verdict']}**",
                "Difference [95 %]": interval if compared else row["reason"],
                "Margin": f"{row['margin']:.3g}" if compared else "",
                "n": count_of_seeds(row),
            }
        )
    return to_markdown(pd.DataFrame(lines))


def claims(*studies: str) -> str:
    """The verdict on each claim, a column a study. A dagger marks interpolation, which depends on the path."""
    every = pd.concat([read(study, "claims.csv") for study in studies])
    every["text"] += every["claim"].str.startswith("interpolation").map({True: " †", False: ""})
    every["place"] = [place_name(row) for row in every.to_dict("records")]
    table = every.pivot(index="text", columns="place", values="verdict").fillna("")
    ordered = table.loc[every["text"].unique(), every["place"].unique()]
    return to_markdown(ordered.rename_axis(index="Claim, judged by protocol 1").reset_index())


def rates(study: str) -> str:
    """The ELBO on held-out images by learning rate and arm."""
    return to_markdown(printed(read(study, "tuning.csv")))


def bounds(*studies: str) -> str:
    """How far each arm is behind the matched VAE in bounds of log p(x) by K samples, in nats.

    Paired over seeds on the images of the importance-weighted NLL. K = 1 is the ELBO; as K grows a bound forgets the
    posterior (Burda et al. 2016, arXiv 1509.00519, theorem 1), and what is left is the decoder's and the prior's.
    """
    lines = []
    for _, runs in pd.concat([read(study, "tables/runs.csv") for study in studies]).groupby(GROUP, sort=False):
        of_arm = {arm: found.set_index("seed") for arm, found in runs.groupby("arm")}
        for arm in (arm for arm in ARMS if arm in of_arm and arm != "vae"):
            line = {"Data set": place_name(runs.iloc[0]), "Arm": ARMS[arm].label}
            for samples in (1, 10, 100, 1000):
                pair = pd.concat([of_arm[name][f"nll_k{samples}"] for name in (arm, "vae")], axis=1).dropna()
                found = paired_difference(*pair.to_numpy().T, better="lower", margin=1, bootstrap=False)
                low, high = found.interval_95
                line |= {"n": str(found.n), f"K = {samples:,}": f"{found.mean:.2f} [{low:.2f}, {high:.2f}]"}
            lines.append(line)
    return to_markdown(pd.DataFrame(lines))


def gains(*studies: str) -> str:
    """The line that the gains of the BVAE with gains are on, mean ± standard deviation over seeds."""
    lines = []
    for study in studies:
        for row in read(study, "tables/table1.csv").query("arm == 'bvae_gain'").to_dict("records"):
            table = read(study, "figures/latent_gains-{recipe}-{dataset}-z{latent_dim}.csv".format_map(row))
            active, found = table[table["active"]], gain_lines(table)
            line = {
                "Data set": place_name(row),
                "n": str(len(found)),
                "Active latents": f"{len(active) / len(found):.1f}",
            }
            line["Gains"] = f"{active['gain'].min():.3f} to {active['gain'].max():.2f}"
            for header, values in zip(("Slope", "Intercept", "Correlation"), found.T, strict=True):
                line[header] = f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"
            lines.append(line)
    return to_markdown(pd.DataFrame(lines))


def seeds(*studies: str) -> str:
    """What fewer seeds would have said: how many of all choices of five of a study's seeds give which verdict."""
    every, pilots = load_claims(ROOT / "config/claims.yaml")
    compared = [claim for claim in every if claim["test"] in ("matches", "outperforms") and "vae" in claim["arms"]]
    lines = []
    for study in studies:
        mine = pilots_of(pilots, check_study(read_yaml(ROOT / f"config/{study}.yaml"), datasets=None))
        runs, final = read(study, "tables/runs.csv"), read(study, "claims.csv").set_index("claim")["verdict"]
        controls: dict[str, dict] = {dataset: {} for dataset in runs["dataset"]}
        found: dict[str, list[str]] = {claim["id"]: [] for claim in compared}
        for chosen in combinations(sorted(runs["seed"].unique()), MINIMUM_SEEDS):
            rows = runs[runs["seed"].isin(chosen)].to_dict("records")
            for entry in judge_claims(compared, rows, controls, mine, bootstrap=False):
                found[entry["claim"]].append(entry["verdict"])
        for claim in compared:
            line = {
                "Claim": claim["text"],
                "Data set": place_name(runs.iloc[0]),
                "All seeds": f"**{final[claim['id']]}**",
            }
            for verdict in ("reproduced", "inconclusive", "not reproduced"):
                line[f"Five: {verdict}"] = str(found[claim["id"]].count(verdict))
            lines.append(line)
    return to_markdown(pd.DataFrame(lines))


BLOCKS: dict[str, Callable[..., str]] = {
    block.__name__: block
    for block in (arms, claims, verdicts, rates, bounds, gains, seeds, after.afterwards, after.matches, after.failures)
}


def fill(page: str) -> str:
    """A page with every block written anew."""
    return BLOCK.sub(
        lambda found: f"{found['head']}{BLOCKS[found['name']](*found['studies'].split())}{found['end']}", page
    )


def differences() -> pd.DataFrame:
    """Each arm against the matched VAE in every published study that has both, and seeds enough for a verdict.

    In the unit of its panel, positive where the arm is worse, paired over seeds, with 95 % intervals.
    """
    return pd.DataFrame(
        line
        for study, folder in FOLDERS.items()
        if (folder / "claims.csv").exists()
        for _, runs in read(study, "tables/runs.csv").groupby(GROUP, sort=False)
        if runs["seed"].nunique() >= MINIMUM_SEEDS
        for line in _compared(study, runs[runs["status"] == "finished"], read(study, "claims.csv"))
    )


def _compared(study: str, runs: pd.DataFrame, judged: pd.DataFrame) -> Iterator[dict]:
    place = runs.iloc[0][GROUP].to_dict()
    judged = judged[(judged[GROUP] == list(place.values())).all(axis=1)].set_index("claim")
    of_arm = {arm: found.set_index("seed") for arm, found in runs.groupby("arm")}
    for claim, (task, unit, factor) in PANELS.items():
        if "vae" not in of_arm or "bvae" not in of_arm or judged.loc[claim, "n"] < 2:
            continue
        metric, margin = judged.loc[claim, "metric"], judged.loc[claim, "margin"]
        scale = factor or 100 / of_arm["vae"][metric].mean()
        for arm in (arm for arm in ARMS if arm in of_arm and arm != "vae"):
            wanted = [metric, "parameters"]
            pair = pd.concat([of_arm[arm][wanted], of_arm["vae"][wanted]], axis=1, keys=["arm", "vae"]).dropna()
            better = run_metrics()[metric].better
            found = paired_difference(
                pair["arm", metric], pair["vae", metric], better=better, margin=margin, bootstrap=False
            )
            low, high = (scale * end for end in found.interval_95)
            yield (
                {"study": study}
                | place
                | {
                    "arm": arm,
                    "share_of_parameters": (pair["arm", "parameters"] / pair["vae", "parameters"]).iloc[0],
                    "task": task,
                    "metric": metric,
                    "unit": unit,
                    "n": found.n,
                    "difference": scale * found.mean,
                    "low": low,
                    "high": high,
                    "margin": scale * margin,
                }
            )


def draw(frame: pd.DataFrame) -> Figure:
    """Quality against parameters, all studies: how much worse each arm is than the matched VAE, task by task."""
    groups = list(frame.groupby(["study", *GROUP], sort=False))
    places, labels, y = {}, [], 0.0
    for key, found in groups:
        for arm in [arm for arm in ARMS if arm in set(found["arm"])]:
            share = found[found["arm"] == arm]["share_of_parameters"].iloc[0]
            places[*key, arm] = y
            labels.append((y, f"{ARMS[arm].label}, {100 * share:.0f} %"))
            y += 1
        y += 1.3
    figure = Figure((10.5, 0.9 + 0.19 * y), dpi=DPI, layout="constrained")
    every = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (task, unit, _) in zip(every, PANELS.values(), strict=True):
        for key, found in frame[frame["task"] == task].groupby(["study", *GROUP], sort=False):
            for row in found.to_dict("records"):
                at = places[*key, row["arm"]]
                axes.fill_betweenx([at - 0.5, at + 0.5], -row["margin"], row["margin"], color="0.9", linewidth=0)
                error = [[row["difference"] - row["low"]], [row["high"] - row["difference"]]]
                look = {"color": ARMS[row["arm"]].colour, "marker": ARMS[row["arm"]].marker, "markersize": 4.5}
                axes.errorbar(row["difference"], at, xerr=error, capsize=2, elinewidth=1.2, **look)
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.set_title(task, fontsize=8, fontweight="bold", loc="left")
        axes.set_xlabel(f"difference, {unit}")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=5)
    first = every[0]
    first.set_yticks([at for at, _ in labels], [text for _, text in labels])
    first.set_ylim(y - 0.8, -1.8)
    for key, found in groups:
        top = min(at for place, at in places.items() if place[:4] == key)
        least, most = found["n"].min(), found["n"].max()
        text = f"{place_name(found.iloc[0])}, n = {least}{f' to {most}' if most > least else ''}"
        first.text(-0.02, top - 0.95, text, transform=first.get_yaxis_transform(), ha="right", fontweight="bold")
    figure.suptitle(
        "Difference from the matched VAE (0), worse to the right. Points: mean over seeds; bars: 95 % interval;"
        " grey: the margin. Beside each arm: its parameters, of the VAE's.",
        fontsize=8,
    )
    return figure


def main() -> None:
    """Write the picture and the blocks of the pages."""
    frame = differences()
    write_text(PUBLISHED / "overview.csv", frame.to_csv(index=False, lineterminator="\n"))
    with tempfile.TemporaryDirectory() as folder:
        save_figure(partial(draw, frame), Path(folder, "overview"))
        shrink_picture(Path(folder, "overview.png"), PUBLISHED / "overview.png")
    for page in PAGES:
        path = ROOT / page
        write_text(path, fill(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
