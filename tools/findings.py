"""The tables and numbers that pages show of the published studies: what templates call."""

import math
from collections.abc import Iterable
from functools import partial
from itertools import combinations, product
from types import SimpleNamespace

import numpy as np
import pandas as pd
from scipy import stats

from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.report.claims import judge_claims, load_claims, paired_difference
from bvae.report.figures._plots import gain_lines
from bvae.report.pilots import pilots_of
from bvae.report.tables import count_of_seeds
from bvae.report.tuning import printed
from bvae.report.typeset import to_markdown
from bvae.report.verdicts import MINIMUM_SEEDS, welch
from bvae.study.config import check_study
from bvae.study.runs import GROUP, expand_runs
from bvae.system.files import read_yaml
from tools.overview import PANELS, differences
from tools.published import ROOT, Published, place_name

COLUMNS = {  # of runs.csv: header, decimals, factor
    "reconstruction": ("Reconstruction, nats ↓", 2, 1),
    "elbo": ("ELBO, nats ↑", 2, 1),
    "fd_classifier_samples": ("FD samples ↓", 1, 1),
    "fd_classifier_interpolations": ("FD midpoints ↓", 1, 1),
    "probe_accuracy": ("Probe, % ↑", 2, 100),
}
VERDICTS = ("reproduced", "inconclusive", "not reproduced")
STRICT, GAIN, VAE, NARROW = FOUR = ("bvae", "bvae_gain", "vae", "vae_narrow")


def arms(published: Published, *studies: str) -> str:
    """The four tasks by arm: mean ± standard deviation over seeds."""
    lines = []
    for study in studies:
        for arm in ARMS:
            runs = published.runs(study, arm)
            if runs.empty:
                continue
            count = {"n": len(runs), "diverged": published.lost(study, arm)}
            line = {"Data set": place_name(runs.iloc[0]), "Arm": ARMS[arm].label, "n": count_of_seeds(count)}
            line["Parameters"] = f"{runs['parameters'].iloc[0]:,.0f}"
            for column, (header, decimals, factor) in COLUMNS.items():
                values = factor * runs[column]
                line[header] = f"{values.mean():.{decimals}f} ± {values.std():.{decimals}f}"
            lines.append(line)
    return to_markdown(pd.DataFrame(lines))


def verdicts(published: Published, *studies: str) -> str:
    """The claims of the paper and what became of them."""
    lines = []
    for row in pd.concat([published.read(study, "claims.csv") for study in studies]).to_dict("records"):
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


def claims(published: Published, *studies: str) -> str:
    """The verdict on each claim, a column a study. A dagger marks interpolation, which depends on the path."""
    every = pd.concat([published.read(study, "claims.csv") for study in studies])
    every["text"] += every["claim"].str.startswith("interpolation").map({True: " †", False: ""})
    every["place"] = [place_name(row) for row in every.to_dict("records")]
    table = every.pivot(index="text", columns="place", values="verdict").fillna("")
    ordered = table.loc[every["text"].unique(), every["place"].unique()]
    return to_markdown(ordered.rename_axis(index="Claim, judged by protocol 1").reset_index())


def rates(published: Published, study: str) -> str:
    """The ELBO on held-out images by learning rate and arm."""
    return to_markdown(printed(published.read(study, "tuning.csv")))


def bounds(published: Published, *studies: str) -> str:
    """How far each arm is behind the matched VAE in bounds of log p(x) by K samples, in nats.

    Paired over seeds on the images of the importance-weighted NLL. K = 1 is the ELBO; as K grows a bound forgets the
    posterior (Burda et al. 2016, arXiv 1509.00519, theorem 1), and what is left is the decoder's and the prior's.
    """
    lines = []
    for _, runs in pd.concat([published.read(study, "tables/runs.csv") for study in studies]).groupby(
        GROUP, sort=False
    ):
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


def gains(published: Published, *studies: str) -> str:
    """The line that the gains of the BVAE with gains are on, mean ± standard deviation over seeds."""
    lines = []
    for study in studies:
        row = published.runs(study, GAIN).iloc[0]
        table = published.read(study, "figures/latent_gains-{recipe}-{dataset}-z{latent_dim}.csv".format_map(row))
        active, found = table[table["active"]], gain_lines(table)
        line = {"Data set": place_name(row), "n": str(len(found)), "Active latents": f"{len(active) / len(found):.1f}"}
        line["Gains"] = f"{active['gain'].min():.3f} to {active['gain'].max():.2f}"
        for header, values in zip(("Slope", "Intercept", "Correlation"), found.T, strict=True):
            line[header] = f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"
        lines.append(line)
    return to_markdown(pd.DataFrame(lines))


def seeds(published: Published, *studies: str) -> str:
    """What fewer seeds would have said: how many of all choices of five of a study's seeds give which verdict."""
    lines = []
    for study in studies:
        final = published.claims(study)
        for claim, counts in five_of(published, study).iterrows():
            line = {
                "Claim": final.loc[claim, "text"],
                "Data set": place_name(final.loc[claim]),
                "All seeds": f"**{final.loc[claim, 'verdict']}**",
            }
            lines.append(line | {f"Five: {verdict}": str(counts[verdict]) for verdict in VERDICTS})
    return to_markdown(pd.DataFrame(lines))


def five_of(published: Published, study: str) -> pd.DataFrame:
    """For each comparison with the VAE: how many choices of five of the seeds give each verdict of protocol 1."""
    if (study, "five") not in published.found:
        every, pilots = load_claims(ROOT / "config/claims.yaml")
        compared = [claim for claim in every if claim["test"] in ("matches", "outperforms") and VAE in claim["arms"]]
        mine = pilots_of(pilots, check_study(read_yaml(ROOT / f"config/{study}.yaml"), datasets=None))
        runs = published.read(study, "tables/runs.csv")
        controls: dict[str, dict] = {dataset: {} for dataset in runs["dataset"]}
        found = pd.DataFrame(0, index=[claim["id"] for claim in compared], columns=list(VERDICTS))
        for chosen in combinations(sorted(runs["seed"].unique()), MINIMUM_SEEDS):
            rows = runs[runs["seed"].isin(chosen)].to_dict("records")
            for entry in judge_claims(compared, rows, controls, mine, bootstrap=False):
                found.loc[entry["claim"], entry["verdict"]] += 1
        published.found[study, "five"] = found
    return published.found[study, "five"]


def five_in_all(published: Published, *studies: str) -> SimpleNamespace:
    """Of all these verdicts: how many there are, contradict all seeds, are open where all decide, or the reverse."""
    every = [
        (counts, published.claims(study).loc[counts.index, "verdict"])
        for study in studies
        for counts in [five_of(published, study)]
    ]
    counts, final = pd.concat([one for one, _ in every]), pd.concat([other for _, other in every])
    decided = (final != "inconclusive").to_numpy()
    opposite = {"reproduced": "not reproduced", "not reproduced": "reproduced"}
    return SimpleNamespace(
        choices=int(counts.sum(axis=1).iloc[0]),
        verdicts=int(counts.to_numpy().sum()),
        contradict=sum(
            int(line[opposite[verdict]])
            for (_, line), verdict in zip(counts[decided].iterrows(), final[decided], strict=True)
        ),
        left_open=int(counts[decided]["inconclusive"].sum()),
        sooner=int(counts[~decided][["reproduced", "not reproduced"]].to_numpy().sum()),
    )


def gaps(published: Published, study: str) -> SimpleNamespace:
    """How far each arm of a study is from the matched VAE: `gaps(study).bvae.elbo.worse`, in the unit of the task.

    A gap has `worse` and its 95 % interval `low` to `high`, `better` (the same with its sign turned), the `margin`, `n`
    and the `share` of the VAE's parameters, in per cent.
    """
    tasks = {task: name for name, (task, _, _) in SHORT.items()}
    found: dict[str, dict[str, SimpleNamespace]] = {}
    for row in differences(published, study).to_dict("records"):
        gap = {key: row[key] for key in ("low", "high", "margin", "n")}
        gap |= {"worse": row["difference"], "better": -row["difference"], "share": 100 * row["share_of_parameters"]}
        gap |= {"within": row["high"] < row["margin"], "beyond": row["low"] > row["margin"]}
        found.setdefault(row["arm"], {})[tasks[row["task"]]] = SimpleNamespace(**gap)
    return SimpleNamespace(**{arm: SimpleNamespace(**gap) for arm, gap in found.items()})


SHORT = {claim.removesuffix("-matches").replace("classification", "probe"): found for claim, found in PANELS.items()}


def mean(published: Published, study: str, arm: str, metric: str) -> float:
    """Over the finished runs of an arm, in a study of one data set, network and latent dimension."""
    runs = published.runs(study, arm)
    if len(cells := runs[GROUP].drop_duplicates()) > 1:
        raise InputError(f"{study}: a mean over {len(cells)} networks or data sets says nothing. Use 'by_seed'.")
    return float(runs[metric].mean())


def verdict(published: Published, study: str, claim: str) -> str:
    """What became of a claim by protocol 1."""
    return published.claims(study).loc[claim, "verdict"]


def judged(published: Published, study: str, *, matches: str = "", misses: str = "", leaves_open: str = "") -> bool:
    """Whether the strict BVAE matches its VAE in these tasks, and does not in those, by protocol 1."""
    wanted = {"reproduced": matches, "not reproduced": misses, "inconclusive": leaves_open}
    return all(
        verdict(published, study, f"{task}-matches") == said for said, tasks in wanted.items() for task in tasks.split()
    )


def registered(published: Published, study: str, test: str, task: str, arms: str) -> dict[int | str, SimpleNamespace]:
    """What became of a claim of protocol 2 at each width about which it was made, or for each recipe without widths.

    It has the columns of claims.csv; `worse`, the difference, with its 95 % interval `low` to `high`, is positive where
    the first arm is worse. `arms` are as in the table: "bvae against vae".
    """
    return _by_width(published.read(study, "claims.csv"), test=test, task=task, arms=arms)


def compared(published: Published, study: str, arms: str, **place: str) -> dict[int | str, SimpleNamespace]:
    """The comparison of two arms by ELBO, without a verdict, with the names that `registered` gives.

    A study of several data sets needs `dataset`.
    """
    return _by_width(published.read(study, "comparisons.csv"), metric="elbo", arms=arms, **place)


def _by_width(table: pd.DataFrame, **wanted: str) -> dict[int | str, SimpleNamespace]:
    named = {"difference": "worse", "interval_95_low": "low", "interval_95_high": "high", "n_1": "n"}
    rows = table[(table[[*wanted]] == [*wanted.values()]).all(axis=1)].rename(columns=named).to_dict("records")
    widths = [row["recipe"].rpartition("-w")[2] for row in rows]
    return _unique(
        (int(width) if width.isdecimal() else row["recipe"], row) for width, row in zip(widths, rows, strict=True)
    )


def _unique(rows: Iterable[tuple[int | str, dict]]) -> dict[int | str, SimpleNamespace]:
    found: dict[int | str, SimpleNamespace] = {}
    for key, row in rows:
        if key in found:
            raise InputError(f"two lines of a table are of {key}, expected one: {row} and {vars(found[key])}")
        found[key] = SimpleNamespace(**row)
    return found


def sizes(published: Published, study: str, arm: str) -> dict[int | str, SimpleNamespace]:
    """The lines of an arm in the table of sizes by width, and as "doubling" what a doubling of the width changes."""
    rows = published.read(study, "sizes.csv").query("arm == @arm")
    widths = ["doubling" if np.isnan(width) else int(width) for width in rows["width"]]
    return _unique(zip(widths, rows.to_dict("records"), strict=True))


def by_size(published: Published, study: str) -> str:
    """How far the tied arms are behind a VAE of their width and one of their size in ELBO, with 95 % intervals."""
    table = published.read(study, "comparisons.csv").query("metric == 'elbo'").set_index([*GROUP, "arms"])
    runs, lines = published.runs(study), []
    for place, arm in product(table.index.droplevel("arms").unique(), (STRICT, GAIN)):
        of_arm = runs[(runs[[*GROUP]] == [*place]).all(axis=1) & (runs["arm"] == arm)]
        line = {"Data set, network": place_name(of_arm.iloc[0]), "Arm": ARMS[arm].label, "n": str(len(of_arm))}
        line["Parameters"] = f"{of_arm['parameters'].iloc[0]:,.0f}"
        for other, what in ((VAE, "of its width"), (NARROW, "of its size")):
            found = table.loc[(*place, f"{arm} against {other}")]
            interval = f"{found['interval_95_low']:.2f} to {found['interval_95_high']:.2f}"
            line[f"Nats behind a VAE {what} (95 % interval)"] = f"{found['difference']:.2f} ({interval})"
        lines.append(line)
    return to_markdown(pd.DataFrame(lines))


def ranks(published: Published, study: str) -> dict[int, SimpleNamespace]:
    """What a decoder's correction of each rank brings, of a study that spends as many parameters on width, by rank.

    `parameters` are the corrected network's, and `width` is that of the BVAE with gains of nearest size. By ELBO, with
    Welch's intervals, the corrected network is worse than the BVAE with gains of its own width by `without`, than that
    of nearest size by `wider`, and than the VAE of its own width by `untied`.
    """
    runs, found = published.runs(study), {}
    gain = runs[runs["arm"] == GAIN]
    corrected = runs["arm"].str.extract(r"^bvae_rank(\d+)$")[0]
    for rank, of_rank in runs[corrected.notna()].groupby(corrected.dropna().astype(int)):
        [(recipe, parameters)] = of_rank[["recipe", "parameters"]].drop_duplicates().to_numpy()
        nearest = gain.loc[(gain["parameters"] - parameters).abs().idxmin(), "recipe"]
        others = {"without": (GAIN, recipe), "wider": (GAIN, nearest), "untied": (VAE, recipe)}
        found[int(rank)] = SimpleNamespace(parameters=int(parameters), width=int(nearest.rpartition("-w")[2]))
        for name, (arm, of) in others.items():
            other = runs[(runs["arm"] == arm) & (runs["recipe"] == of)]
            setattr(found[int(rank)], name, welch(of_rank["elbo"], other["elbo"], better="higher"))
    return found


def by_rank(published: Published, study: str) -> str:
    """How a correction of each rank compares with the same parameters spent on width, and with an untied network."""
    heads = {
        "without": ("Nats better than without a correction", -1),
        "wider": ("Nats better than at that width", -1),
        "untied": ("Nats behind the VAE", 1),
    }
    lines = []
    for rank, found in ranks(published, study).items():
        line = {"Rank": str(rank), "n": str(found.wider.counts[0]), "Parameters": f"{found.parameters:,}"}
        line["Width of as many"] = str(found.width)
        for name, (head, sign) in heads.items():
            comparison = getattr(found, name)
            low, high = sorted(sign * end for end in comparison.interval(0.95))
            line[f"{head} (95 % interval)"] = f"{sign * comparison.difference:.2f} ({low:.2f} to {high:.2f})"
        lines.append(line)
    return to_markdown(pd.DataFrame(lines))


def shares(published: Published, studies: Iterable[str]) -> list[float]:
    """How many per cent of the matched VAE's parameters the strict BVAE has, in each study."""
    return [
        100 * mean(published, study, STRICT, "parameters") / mean(published, study, VAE, "parameters")
        for study in studies
    ]


def judged_all(published: Published, claims: Iterable[str], study: str, wanted: str) -> bool:
    """Whether all these claims have this verdict."""
    return all(verdict(published, study, claim) == wanted for claim in claims)


def both_probes(published: Published, studies: Iterable[str]) -> int:
    """In how many studies both of the paper's probe accuracies are reproduced."""
    both = ("mnist-probe-bvae", "mnist-probe-vae")
    return sum(judged_all(published, both, study, "reproduced") for study in studies)


def best_mean(published: Published, studies: Iterable[str], arms: Iterable[str], metric: str) -> float:
    """The greatest mean over seeds of any of these arms in any of these studies."""
    return max(mean(published, study, arm, metric) for study, arm in product(studies, arms))


def count_verdicts(published: Published, studies: Iterable[str], claim: str, wanted: str = "reproduced") -> int:
    """In how many of these studies a claim has this verdict."""
    return sum(verdict(published, study, claim) == wanted for study in studies)


def tuned(published: Published, study: str) -> pd.DataFrame:
    """The table of a study that tunes, by learning rate and arm."""
    return published.read(study, "tuning.csv").set_index(["learning_rate", "arm"])


def best_of_tuning(published: Published, study: str, family: str) -> pd.Series:
    """The ELBO of each arm at its best rate, of those of one family of recipes."""
    table = published.read(study, "tuning.csv")
    return table[table["family"] == family].groupby("arm")["elbo"].max()


def by_seed(published: Published, study: str, metric: str = "elbo", recipe: str = "") -> pd.DataFrame:
    """A row a seed, a column an arm; of one recipe, where the study has several."""
    runs = published.read(study, "tables/runs.csv")
    runs = runs[runs["recipe"] == recipe] if recipe else runs
    return runs.pivot(index="seed", columns="arm", values=metric)


def falls(published: Published, study: str, nats: float) -> dict[str, SimpleNamespace]:
    """Of each arm, in how many `runs` the training ELBO of an epoch from the third on fell by more than `nats`.

    That is below the epoch before it; `lowest` is the lowest of these epochs, NaN where there is none.
    """
    found: dict[str, SimpleNamespace] = {}
    for run in published.runs(study).to_dict("records"):
        of_arm = found.setdefault(run["arm"], SimpleNamespace(runs=0, lowest=math.nan))
        elbo = published.history(study, "/{arm}-z{latent_dim}-seed{seed}/".format_map(run)).elbo
        fallen = elbo[elbo.diff().iloc[2:].loc[lambda change: change < -nats].index]
        of_arm.runs += len(fallen) > 0
        of_arm.lowest = np.fmin(of_arm.lowest, fallen.min())
    return found


def of_length(published: Published, short: str, long: str, seeds: int) -> SimpleNamespace:
    """How far each arm is behind its VAE in ELBO after a short and a long training, over the first seeds of both."""
    behind = []
    for study in (short, long):
        elbo = by_seed(published, study).loc[: seeds - 1]
        if len(elbo) != seeds or elbo.isna().any(axis=None):
            raise ValueError(f"{study}: not all of the first {seeds} seeds finished")
        behind.append(-elbo.sub(elbo[VAE], axis=0))
    found = {}
    for arm in (STRICT, GAIN, NARROW):
        less = behind[0][arm] - behind[1][arm]
        low, high = stats.ttest_1samp(less, 0).confidence_interval(0.95)
        found[arm] = SimpleNamespace(
            short=behind[0][arm].mean(), long=behind[1][arm].mean(), less=less.mean(), low=low, high=high
        )
    return SimpleNamespace(**found)


def active_gains(published: Published, study: str) -> SimpleNamespace:
    """The `least` and the `greatest` gain of an active latent, and the mean `correlation` of 1 / gain with norm²."""
    row = published.runs(study, GAIN).iloc[0]
    table = published.read(study, "figures/latent_gains-{recipe}-{dataset}-z{latent_dim}.csv".format_map(row))
    gain = table[table["active"]]["gain"]
    return SimpleNamespace(least=gain.min(), greatest=gain.max(), correlation=np.mean(gain_lines(table)[:, 2]))


def behind_by_samples(published: Published, study: str, arm: str, samples: int) -> float:
    """How far an arm is behind the matched VAE in the bound by so many samples, over the seeds of both, in nats."""
    table = by_seed(published, study, f"nll_k{samples}")[[arm, VAE]].dropna()
    return float((table[arm] - table[VAE]).mean())


PRECISIONS = {
    "elbo": ("ELBO, nats", 1),
    "reconstruction": ("reconstruction, nats", 1),
    "probe_accuracy": ("probe, %", 100),
}
PRECISIONS |= {"fd_classifier_samples": ("FD classifier of samples", 1)}


def precisions(published: Published) -> str:
    """Training in float32 beside bfloat16: mean ± standard deviation over seeds."""
    of = published.runs("precision").groupby("recipe")
    lines = []
    for column, (header, factor) in PRECISIONS.items():
        line = {"": header}
        for recipe in ("float32", "bfloat16"):
            values = factor * of.get_group(f"resnet-{recipe}")[column]
            line[recipe] = f"{values.mean():.2f} ± {values.std():.2f}"
        lines.append(line)
    return to_markdown(pd.DataFrame(lines))


def spreads_apart(published: Published) -> float:
    """How many standard deviations of the seeds (the greater) the means of the two precisions are apart at most."""
    found = []
    for name in ("tables/table1.csv", "tables/table2.csv"):
        table = published.read("precision", name).query("arm == 'bvae'").set_index("recipe")
        one, other = (table.loc[f"resnet-{precision}"] for precision in ("float32", "bfloat16"))
        for column in (column for column in table if f"{column}_sd" in table):
            spread = max(one[f"{column}_sd"], other[f"{column}_sd"])
            found.append(abs(one[column] - other[column]) / spread if spread else 0.0)
    return float(np.nanmax(found))


GPU_RATES = {  # of a row of rates: header, decimals
    "uncaptured": ("One kernel at a time, images/s", 0),
    "captured": ("Captured, images/s", 0),
    "captured_and_compiled": ("Captured and compiled, images/s", 0),
    "captured_over_uncaptured": ("Captured: times as fast", 1),
    "compiled_over_uncaptured": ("Compiled: times as fast", 1),
    "train_over_bare": ("Of the bare captured step", 2),
}


def gpu_rates(published: Published) -> str:
    """How fast a GPU trains the paper study's networks, by the way in which a step is launched."""
    lines = []
    for row in published.gpu["rates"]:
        numbers = {header: f"{row[name]:,.{decimals}f}" for name, (header, decimals) in GPU_RATES.items()}
        lines.append({"Network": row["what"]} | numbers)
    return to_markdown(pd.DataFrame(lines))


def gpu_value(published: Published, section: str, what: str, name: str) -> float:
    """A number that `make gpu-check` has found."""
    [row] = [row for row in published.gpu[section] if row["what"] == what]
    return float(row[name])


TRAINING_IMAGES = {"mnist": 60_000, "fashion_mnist": 60_000, "cifar10": 50_000, "celeba64": 162_770}


def paper_hours(published: Published) -> SimpleNamespace:
    """How long the GPU would train the runs of config/paper.yaml, one after the other, at the rates that it had.

    By data set, and `all`, in hours. Starts of jobs, evaluation and references are not in it.
    """
    study = check_study(read_yaml(ROOT / "config/paper.yaml"), datasets=None)
    hours = dict.fromkeys(TRAINING_IMAGES, 0.0)
    for run in expand_runs(study):
        training = study["recipes"][run["recipe"]]["training"]
        way = "captured_and_compiled" if training.get("compile") else "captured"
        rate = gpu_value(published, "rates", run["recipe"], way)
        hours[run["dataset"]] += training["epochs"] * TRAINING_IMAGES[run["dataset"]] / rate / 3600
    return SimpleNamespace(**hours, all=sum(hours.values()))


def gpu_holds(published: Published) -> bool:
    """Whether every section that tests for correctness has said that it holds."""
    sections = ("same_bytes", "repeated", "killed", "skipped", "compiled")
    return all(row["holds"] for section in sections for row in published.gpu[section])


CALLS = (
    gpu_rates,
    gpu_value,
    gpu_holds,
    paper_hours,
    precisions,
    spreads_apart,
    arms,
    claims,
    verdicts,
    rates,
    bounds,
    gains,
    seeds,
    five_in_all,
    gaps,
    mean,
    verdict,
    judged,
    judged_all,
    registered,
    compared,
    sizes,
    by_size,
    ranks,
    by_rank,
    both_probes,
    best_mean,
    shares,
    count_verdicts,
    tuned,
    best_of_tuning,
    by_seed,
    falls,
    of_length,
    active_gains,
    behind_by_samples,
)


def calls(published: Published) -> dict:
    """What a template can call, by name."""
    return {call.__name__: partial(call, published) for call in CALLS}
