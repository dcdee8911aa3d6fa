"""How a comparison changes with size, and what share tying needs: against closed forms, and in simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from bvae.arms import ARMS as LOOKS
from bvae.report.judgement import describe_study
from bvae.report.made_from import files_of
from bvae.report.outdated import tell_shared_widths
from bvae.report.size_curves import draw_sizes
from bvae.report.sizes import measure_sizes, needed_share, share_in_words, slope
from bvae.report.verdicts import Estimate, welch
from bvae.study.widths import series_of, shared_widths
from helpers.studies import check

WIDTHS = (256, 512, 1024)
SEEDS = 8
STUDIES = 2_000  # simulated; the standard error of a rate of 5 % is 0.5 %


def comparison(first, second):
    return welch(np.asarray(first), np.asarray(second), better="higher")


# --- the slope over the logarithm of the width -----------------------------------------------------------------------


def test_the_slope_of_exact_means_is_that_of_least_squares():
    """Differences of 3, 2 and 0 nats: -1.5 nats a doubling, by hand and by NumPy."""
    spread = np.array([-1.0, 0.0, 1.0])
    found = slope([comparison(spread - gap, spread) for gap in (3.0, 2.0, 0.0)], WIDTHS)
    assert found.difference == pytest.approx(-1.5, abs=1e-12)
    assert found.difference == pytest.approx(np.polyfit(np.log2(WIDTHS), (3.0, 2.0, 0.0), 1)[0], abs=1e-12)


def test_the_error_of_a_slope_is_that_of_a_contrast():
    """By hand: weights -1/2, 0 and 1/2 of three differences, each with the variances of two means."""
    rng = np.random.default_rng(1)
    cells = [(rng.normal(size=8) * a, rng.normal(size=6) * b) for a, b in ((1, 2), (3, 1), (0.5, 0.7))]
    found = slope([comparison(*cell) for cell in cells], WIDTHS)
    parts = [np.var(values, ddof=1) / len(values) / 4 for cell in (cells[0], cells[2]) for values in cell]
    freedom = sum(parts) ** 2 / sum(part**2 / (n - 1) for part, n in zip(parts, (8, 6, 8, 6), strict=True))
    assert (found.error, found.freedom) == (pytest.approx(math.sqrt(sum(parts))), pytest.approx(freedom))


def test_the_slope_of_two_sizes_is_the_difference_of_their_differences():
    """Over two doublings, half of it. With one arm known exactly it is Welch's t-test of the other's two cells."""
    rng = np.random.default_rng(2)
    narrow, wide, exact = rng.normal(size=8), 2 * rng.normal(size=8), np.zeros(8)
    found = slope([comparison(narrow, exact), comparison(wide, exact)], (256, 1024))
    reference = stats.ttest_ind(narrow, wide, equal_var=False)  # narrow less wide, as worse is positive
    assert 2 * found.difference == pytest.approx(narrow.mean() - wide.mean())
    assert found.freedom == pytest.approx(reference.df)
    low, high = reference.confidence_interval(0.95)
    assert found.interval(0.95) == (pytest.approx(low / 2), pytest.approx(high / 2))


def test_intervals_of_slopes_cover():
    """Normal seeds whose spread differs threefold between arms and sizes: 95 % of intervals hold the truth."""
    rng = np.random.default_rng(3)
    truth, held = -0.6, 0
    for _ in range(STUDIES):
        cells = []
        for step, spreads in enumerate(((0.18, 0.06), (0.11, 0.18), (0.06, 0.15))):
            gap = 1.5 + truth * step
            cells.append(comparison(-gap + spreads[0] * rng.normal(size=SEEDS), spreads[1] * rng.normal(size=SEEDS)))
        low, high = slope(cells, WIDTHS).interval(0.95)
        held += low <= truth <= high
    assert abs(held / STUDIES - 0.95) < 0.015


# --- the needed share ------------------------------------------------------------------------------------------------

BETTER, WORSE, OPEN = Estimate(-1.0, 0.1, 14.0), Estimate(1.0, 0.1, 14.0), Estimate(0.0, 0.1, 14.0)


@pytest.mark.parametrize(
    ("found", "ends", "said"),
    [
        ({1.0: BETTER, 0.75: OPEN, 0.51: WORSE}, (0.51, 1.0), "0.51 to 1.00"),
        ({1.0: BETTER, 0.75: BETTER, 0.51: WORSE}, (0.51, 0.75), "0.51 to 0.75"),
        ({1.0: BETTER, 0.75: BETTER, 0.51: OPEN}, (None, 0.75), "at most 0.75"),
        ({1.0: BETTER, 0.75: BETTER, 0.51: BETTER}, (None, 0.51), "at most 0.51"),
        ({1.0: OPEN, 0.75: WORSE, 0.51: WORSE}, (0.75, None), "at least 0.75"),
        ({1.0: WORSE, 0.75: WORSE, 0.51: WORSE}, (1.0, None), "at least 1.00"),
        ({1.0: OPEN, 0.51: OPEN}, (None, None), "not identified"),
        ({1.0: OPEN, 0.75: BETTER, 0.51: OPEN}, (None, None), "not identified"),  # a gap: the sequence stops there
        ({1.0: Estimate(0.0, 0.0, math.nan), 0.51: Estimate(0.0, 0.0, math.nan)}, (None, None), "not identified"),
        ({1.0: BETTER, 0.75: Estimate(math.nan, math.nan, math.nan), 0.51: WORSE}, (0.51, 1.0), "0.51 to 1.00"),
    ],
)
def test_the_share_lies_between_the_last_sizes_that_decide(found, ends, said):
    assert needed_share(sorted(found.items())) == ends
    assert share_in_words(*ends) == said


def quality(parameters: float) -> float:
    """A made-up VAE's ELBO: it rises to a plateau, as in trials."""
    return -94.0 - 3.0 * (parameters / 1e6) ** -0.8


REPEATS = 500
GRIDS = {"six sizes": (1.0, 0.9, 0.8, 0.7, 0.6, 0.52), "three sizes": (1.0, 0.75, 0.52)}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("truth", [0.45, 0.521, 0.62, 0.751, 0.999, 1.1])
def test_intervals_of_the_needed_share_cover(grid, truth):
    """Whatever the truth, also beyond both ends and beside a trained size, where false rejections count most."""
    rng = np.random.default_rng(4)
    tied, held = quality(1e6 / truth), 0
    for _ in range(REPEATS):
        mine = tied + 0.15 * rng.normal(size=SEEDS)
        found = {share: comparison(mine, quality(1e6 / share) + 0.1 * rng.normal(size=SEEDS)) for share in GRIDS[grid]}
        low, high = needed_share(sorted(found.items()))
        held += (low is None or low <= truth) and (high is None or truth <= high)
    assert held / REPEATS > 0.95 - 2 * math.sqrt(0.95 * 0.05 / REPEATS)


def test_sizes_that_are_not_rejected_would_not_do():
    """The hull of the trained sizes at which equality is not rejected misses truths between them, as 0.62."""
    rng = np.random.default_rng(5)
    truth, held, widened = 0.62, 0, 0
    tied = quality(0.2e6 / truth)  # of small networks, far from the plateau
    for _ in range(200):
        mine = tied + 0.15 * rng.normal(size=SEEDS)
        found = {s: comparison(mine, quality(0.2e6 / s) + 0.1 * rng.normal(size=SEEDS)) for s in GRIDS["three sizes"]}
        kept = [share for share, of in found.items() if ONE_SIDED < of.p_above(0.0) < 1 - ONE_SIDED]
        held += bool(kept) and min(kept) <= truth <= max(kept)
        low, high = needed_share(sorted(found.items()))
        widened += (low or 0) <= truth <= (high or 9)
    assert held / 200 < 0.05 and widened / 200 > 0.95


ONE_SIDED = 0.025


# --- a study ---------------------------------------------------------------------------------------------------------

NETWORK = {"architecture": "mlp", "hidden": [1024, 512]}
ARMS = ["bvae_gain", "vae_narrow", "vae", "vae_s75"]


def study(**blocks) -> dict:
    return check(
        {
            "study": "sizes",
            "protocol": 2,
            "blocks": [
                {
                    "datasets": ["digits"],
                    "arms": ARMS,
                    "recipes": ["mlp"],
                    "widths": [256, 1024],
                    "latent_dims": [8],
                    "seeds": [*range(SEEDS)],
                    **blocks,
                }
            ],
            "recipes": {
                "mlp": {"network": NETWORK, "training": {"epochs": 1, "batch_size": 8, "learning_rate": 0.001}}
            },
        }
    )


def rows_of(means: dict[str, dict[str, float]], *, lost: int = 0, sizes: tuple[float, float] = (1, 5)) -> list[dict]:
    """Runs of made-up ELBOs, each arm's mean exact, with spread 0.1; the first `lost` of the narrow VAE diverged."""
    parameters = {"bvae_gain": 100, "vae_narrow": 100, "vae_s75": 133, "vae": 200}
    spread = 0.1 * stats.zscore(np.arange(SEEDS), ddof=1)
    place = {"dataset": "digits", "latent_dim": 8, "layout": {"channels": 1, "size": 8}}
    return [
        place
        | {"recipe": recipe, "arm": arm, "seed": seed, "parameters": parameters[arm] * factor}
        | {"status": "diverged" if arm == "vae_narrow" and seed < lost else "finished", "elbo": mean + noise}
        for (recipe, of_arm), factor in zip(means.items(), sizes, strict=True)
        for arm, mean in of_arm.items()
        for seed, noise in enumerate(spread)
    ]


MEANS = {
    "mlp-w256": {"bvae_gain": -98.0, "vae_narrow": -98.5, "vae_s75": -98.0, "vae": -97.0},
    "mlp-w1024": {"bvae_gain": -95.0, "vae_narrow": -95.5, "vae_s75": -95.3, "vae": -95.0},
}


def test_a_study_of_sizes_gives_differences_slopes_and_shares():
    narrow, wide, change = measure_sizes(study(), rows_of(MEANS))
    assert (narrow["width"], wide["width"], change["width"]) == (256, 1024, None)
    assert (narrow["equal_count"], narrow["equal_width"]) == (pytest.approx(-0.5), pytest.approx(1.0))
    half = stats.t.ppf(0.975, 14) * 0.1 * math.sqrt(2 / SEEDS)
    assert (narrow["equal_width_low"], narrow["equal_width_high"]) == (pytest.approx(1 - half), pytest.approx(1 + half))
    assert (narrow["share_low"], narrow["share_high"]) == (0.5, 1.0)
    assert (wide["share_low"], wide["share_high"]) == (None, pytest.approx(100 / 133))
    assert (change["equal_count"], change["equal_width"]) == (pytest.approx(0.0), pytest.approx(-0.5))  # two doublings
    assert (wide["parameters"], wide["n"], wide["needed_share"]) == (500, SEEDS, "at most 0.75")


def test_a_cell_that_lost_two_runs_is_not_compared():
    """One lost run is allowed, as for verdicts; after two, what is left is a selection."""
    once, twice = (measure_sizes(study(), rows_of(MEANS, lost=lost))[0] for lost in (1, 2))
    assert "equal_count" in once and "equal_count" not in twice
    assert twice["equal_width"] == pytest.approx(1.0)
    assert (twice["share_low"], twice["share_high"]) == (0.5, None)  # the VAE of equal count shows nothing


def test_a_tied_arm_is_compared_with_each_size_of_vae():
    described = describe_study(study(), rows_of(MEANS))
    found = {line["arms"]: line["difference"] for line in described if line["recipe"] == "mlp-w1024"}
    assert found == {
        "bvae_gain against vae": pytest.approx(0.0),
        "vae_narrow against vae": pytest.approx(0.5),
        "vae_s75 against vae": pytest.approx(0.3),
        "bvae_gain against vae_narrow": pytest.approx(-0.5),
        "vae_s75 against vae_narrow": pytest.approx(-0.2),
        "bvae_gain against vae_s75": pytest.approx(-0.3),
    }


def test_the_figure_shows_means_intervals_and_shares():
    curves, below = draw_sizes(series_of(study()), rows_of(MEANS)).axes
    lines = {line.get_label(): line for line in curves.get_lines()}
    assert lines["VAE s=0.75"].get_color() == LOOKS["vae_s75"].colour
    drawn = lines[LOOKS["bvae_gain"].label]
    assert (drawn.get_xdata().tolist(), drawn.get_ydata()) == ([100, 500], pytest.approx([-98, -95]))
    half = stats.t.ppf(0.975, SEEDS - 1) * 0.1 / math.sqrt(SEEDS)
    bands = [band.get_paths()[0].vertices[:, 1] for band in curves.collections]
    assert any((band.min(), band.max()) == (pytest.approx(-98 - half), pytest.approx(-95 + half)) for band in bands)
    bars = [tuple(line.get_ydata()) for line in below.get_lines() if line.get_linewidth() == 2.5]
    assert bars[0] == (0.5, 1.0) and bars[1][1] == pytest.approx(100 / 133) and bars[1][0] < 0.5
    files = {path.rpartition("/")[2] for path in files_of(study(), "claims")}
    assert {f"sizes.{suffix}" for suffix in ("csv", "tex", "html", "json", "svg", "png")} < files
    assert "sizes.csv" not in {path.rpartition("/")[2] for path in files_of(study(widths=[256]), "claims")}


def test_sizes_that_are_close_have_more_marks_on_the_axis():
    """From 600 to 1,400 parameters there is one of 1, 2 and 5."""
    _, below = draw_sizes(series_of(study()), rows_of(MEANS, sizes=(6, 7))).axes
    low, high = below.get_xlim()
    marks = [float(mark) for mark in below.xaxis.get_majorticklocs() if low <= mark <= high]
    assert marks == pytest.approx([600, 700, 800, 900, 1000])


def test_only_vaes_count_in_the_needed_share():
    """A tied arm of another kind is larger than the BVAE as well, but it is no VAE."""
    arms, parameters = [*ARMS, "bvae_rank4"], 120
    rows = rows_of(MEANS)
    more = [row | {"arm": "bvae_rank4", "parameters": parameters, "elbo": -90.0} for row in rows if row["arm"] == "vae"]
    before, after = (measure_sizes(study(arms=arms), found)[0] for found in (rows, [*rows, *more]))
    assert (after["shares"], after["needed_share"]) == (before["shares"], before["needed_share"])
    assert len(before["shares"].split()) == 3


def test_a_change_over_fewer_widths_than_there_are_is_left_out():
    change = measure_sizes(study(), rows_of(MEANS, lost=2))[-1]
    assert "equal_count" not in change and change["equal_width"] == pytest.approx(-0.5)


def test_the_share_of_four_seeds_is_not_told():
    rows = [row for row in rows_of(MEANS) if row["seed"] < 4]
    assert {line["needed_share"] for line in measure_sizes(study(), rows)[:2]} == {"not identified"}


def test_the_figure_leaves_out_what_the_table_does():
    curves, _ = draw_sizes(series_of(study()), rows_of(MEANS, lost=2)).axes
    lines = {line.get_label(): line.get_xdata().tolist() for line in curves.get_lines()}
    assert "VAE narrow" not in lines and lines["VAE"] == [200, 1000]


def test_a_series_is_what_differs_in_size_and_rate_alone():
    config = study()
    [series] = series_of(config)
    assert series == ("mlp", "digits", 8, {256: "mlp-w256", 1024: "mlp-w1024"})
    config["recipes"]["mlp-w256"]["training"]["learning_rate"] = dict.fromkeys(ARMS, 0.002)
    assert series_of(config) == [series]
    config["recipes"]["mlp-w256"]["training"]["epochs"] = 2
    assert series_of(config) == []
    assert series_of(study(widths=[256])) == []


def with_twins(names: list[str], **changes) -> dict:
    """A study of sizes with a recipe for each name, all of the same settings but for `changes` of the second."""
    config = {
        "study": "twins",
        "protocol": 2,
        "blocks": [{"datasets": ["digits"], "arms": ARMS, "latent_dims": [8], "seeds": [0]}],
        "recipes": {
            name: {"network": {**NETWORK}, "training": {"epochs": 1, "batch_size": 8, "learning_rate": 0.001 * (i + 1)}}
            for i, name in enumerate(names)
        },
    }
    config["blocks"][0] |= {"recipes": names} | changes
    return check(config)


def test_recipes_that_share_widths_are_series_by_their_names():
    """Two learning rates at each of two widths."""
    config = with_twins(["slow", "fast"], widths=[256, 1024])
    assert [(found.name, found.recipes) for found in series_of(config)] == [
        (name, {width: f"{name}-w{width}" for width in (256, 1024)}) for name in ("slow", "fast")
    ]
    assert shared_widths(config) == []


def test_a_recipe_that_shares_its_width_and_is_in_no_series_is_told(caplog):
    config = with_twins(["a", "b", "c"])
    config["recipes"]["c"]["network"]["hidden"] = [512, 256]
    assert series_of(config) == []
    assert shared_widths(config) == ["a", "b", "c"]
    tell_shared_widths(config)
    [message] = caplog.messages
    assert all(name in message for name in ("twins", "a, b, c"))


def test_recipes_of_one_width_are_no_series_and_nothing_is_missed(caplog):
    """A study of two learning rates is not about sizes."""
    for config in (with_twins(["a", "b"]), study(), study(widths=[256])):
        assert shared_widths(config) == []
        tell_shared_widths(config)
    assert caplog.messages == []
