"""The rule that chooses learning rates, against parabolas and grids whose answer is known."""

import json
import math

import numpy as np
import pytest
import yaml

from bvae.__main__ import main
from bvae.errors import InputError
from bvae.report import rates
from bvae.report.rates import STEP, Tried, choose, group_runs, measured, parabola, report, shown, steps, to_add, vertex
from bvae.report.tuning import compare
from helpers.checkouts import ROOT
from helpers.small import SHORT_SWEEP
from helpers.studies import check
from helpers.tuning_results import result, write_results

LOW = 0.001


def rate(k: float) -> float:
    """The rate that is so many steps of the grid above 0.001."""
    return LOW * math.sqrt(2) ** k


def grid(*means: float | None, failures: dict[int, int] | None = None) -> list[Tried]:
    """A rate for each mean, of two runs 0.2 apart; None: no run finished."""
    failed = failures or {}
    elbos = [() if mean is None else (mean - 0.1, mean + 0.1) for mean in means]
    return [Tried(rate(k), found, failed.get(k, 0)) for k, found in enumerate(elbos)]


def curve(top: float, *, count: int = 6, curvature: float = 0.3) -> list[float]:
    """Means on the parabola -100 - curvature (k - top)² at `count` rates."""
    return [-100 - curvature * (k - top) ** 2 for k in range(count)]


def runs_of(arm: str, table: list[list[float | None]], **settings) -> list[dict]:
    """Results of an arm: a list of ELBOs over seeds for each rate of the grid; None: the run diverged."""
    return [
        result(f"mlp-{k}", arm, rate(k), elbo, seed=seed, **settings)
        for k, of_seeds in enumerate(table)
        for seed, elbo in enumerate(of_seeds)
    ]


def three(mean: float) -> list[float]:
    """Three ELBOs of this mean."""
    return [mean - 0.1, mean, mean + 0.1]


# --- the parabola -----------------------------------------------------------------------------------------------------


def test_steps_are_counted_in_square_roots_of_two():
    assert steps(0.002, 0.001) == pytest.approx(2, rel=1e-12)
    assert steps(0.001, 0.004) == pytest.approx(-4, rel=1e-12)


def test_the_parabola_goes_through_its_three_points_whatever_their_distances():
    points = [Tried(0.0014, (-101.0,)), Tried(0.002, (-100.0,)), Tried(0.00279, (-100.5,))]
    fit = parabola(points)
    for tried in points:
        assert np.polyval(fit, steps(tried.rate, 0.002)) == pytest.approx(tried.mean, rel=1e-13)


@pytest.mark.parametrize(
    ("coefficients", "where"),
    [
        ((-0.3, 0.15, -100.0), 0.25),
        ((-0.3, -0.6, -100.0), -1.0),
        ((-0.3, 6.0, -100.0), 1.0),  # at 10, and at most a step
        ((-0.3, -6.0, -100.0), -1.0),
        ((0.3, 0.1, -100.0), 0.0),  # convex
        ((0.0, 0.1, -100.0), 0.0),  # a line
    ],
)
def test_the_vertex_is_within_a_step_or_in_the_middle(coefficients, where):
    assert vertex(coefficients) == pytest.approx(where, rel=1e-12)


# --- the rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [1.6, 2.0, 2.25, 2.49, 3.0])
def test_the_chosen_rate_is_the_top_of_the_parabola_and_a_step_costs_its_curvature(top):
    found = choose(grid(*curve(top)))
    assert (found.best, found.moved, found.add) == (pytest.approx(rate(round(top))), False, None)
    assert found.optimum == found.chosen == pytest.approx(rate(top), rel=1e-9)
    assert found.fitted == pytest.approx((0.3, 0.3), rel=1e-6)


def test_the_measured_regret_is_that_of_the_grid_where_the_chosen_rate_is_on_it():
    found = choose(grid(-103.0, -101.5, -100.0, -101.5, -102.0))  # symmetric
    assert found.chosen == pytest.approx(rate(2), rel=1e-12)
    assert found.measured == pytest.approx((1.5, 1.5))
    assert np.isnan(choose(grid(*curve(2.25))).measured).all()
    assert measured(grid(-103.0, -101.5, -100.0), rate(1) * 1.015) == pytest.approx((-1.5, 1.5))  # to 2 %
    assert np.isnan(measured(grid(-103.0, -101.5, -100.0), rate(1) * 1.03)).all()
    assert measured(grid(-103.0, None, -100.0), rate(2)) == pytest.approx((math.nan, math.nan), nan_ok=True)


def test_equal_neighbours_leave_the_best_rate():
    assert choose(grid(-101.0, -100.0, -101.0)).chosen == pytest.approx(rate(1), rel=1e-12)


@pytest.mark.parametrize(
    ("means", "best", "add"),
    [
        ((-100.0, -101.0, -102.0), 0, -1),
        ((-102.0, -101.0, -100.0), 2, 3),
        ((-101.0, -100.0), 1, 2),
        ((-100.0, -101.0), 0, -1),
    ],
)
def test_a_best_rate_at_an_end_of_the_grid_extends_it_and_chooses_nothing(means, best, add):
    found = choose(grid(*means))
    assert (found.best, found.add) == (pytest.approx(rate(best)), pytest.approx(rate(add)))
    assert math.isnan(found.chosen) and math.isnan(found.optimum) and not found.moved


@pytest.mark.parametrize("failures", [1, 2])
def test_a_failure_at_the_best_rate_moves_one_step_down(failures):
    found = choose(grid(-102.0, -101.0, -100.0, -101.0, failures={2: failures}))
    assert (found.best, found.optimum) == (rate(2), rate(2))
    assert (found.moved, found.add) == (True, None)
    assert found.chosen == pytest.approx(rate(1), rel=1e-12)
    assert np.isnan(found.fitted).all()
    assert found.measured == pytest.approx((-1.0, 1.0))  # the step up is better by 1 nat, the step down worse by 1


def test_a_failure_one_step_above_the_best_rate_moves_one_step_down():
    found = choose(grid(-102.0, -101.0, -100.0, -100.5, failures={3: 1}))
    assert (found.optimum, found.moved) == (rate(2), True)
    assert found.chosen == pytest.approx(rate(1), rel=1e-12)


def test_a_failure_two_steps_above_the_best_rate_moves_nothing():
    found = choose(grid(*curve(2.25), failures={4: 3}))
    assert (found.moved, found.chosen) == (False, pytest.approx(rate(2.25), rel=1e-9))


def test_above_a_failure_nothing_is_best_and_nothing_is_added():
    """The rate above survives by luck, and has the highest mean: the failure below it is the end."""
    found = choose(grid(-102.0, -101.0, -100.0, -99.0, failures={2: 1}))
    assert (found.best, found.add) == (rate(2), None)
    assert found.chosen == pytest.approx(rate(1), rel=1e-12)
    top = choose(grid(-102.0, -101.0, -100.0, failures={2: 1}))  # the highest rate of the grid
    assert (top.best, top.add, top.chosen) == (rate(2), None, pytest.approx(rate(1), rel=1e-12))
    dead = choose(grid(-102.0, -101.0, -100.0, None, failures={3: 3}))
    assert (dead.best, dead.add, dead.chosen) == (rate(2), None, pytest.approx(rate(1), rel=1e-12))


@pytest.mark.parametrize(
    ("means", "failures"),
    [((-100.0, -99.0, -98.0), {0: 1}), ((None, -99.0, -98.0), {0: 2}), ((-100.0, None, -98.0), {1: 2})],
)
def test_failures_at_the_low_end_extend_it_downwards(means, failures):
    found = choose(grid(*means, failures=failures))
    assert found.add == pytest.approx(rate(-1)) and math.isnan(found.chosen)


def test_no_run_failed_at_a_chosen_rate_or_below_it():
    generator = np.random.default_rng(0)
    chosen = 0
    for _ in range(500):
        count = int(generator.integers(2, 8))
        failures = {k: int(generator.integers(1, 3)) for k in range(count) if generator.random() < 0.2}
        found = choose(grid(*generator.normal(-100, 1, count), failures=failures))
        if found.add is None:
            chosen += 1
            lowest = rate(min(failures, default=99))
            assert found.chosen < lowest * (1 - 1e-9)
            assert 1 - 1e-9 < found.optimum / found.chosen < STEP + 1e-9
            assert found.moved == (rate(0) < lowest <= found.best * STEP * (1 + 1e-9))
        else:
            assert math.isnan(found.chosen)
    assert 100 < chosen < 400


def test_the_new_rule_moves_both_arms_one_step_down_where_the_star_moves_them_apart():
    """One of three runs diverged at the best rate of either arm.

    The star takes the best of the other rates: two steps apart here, the VAE's above the rate that failed.
    """
    vae = [three(-103.0), three(-101.0), [-99.9, -100.1, None], three(-100.5), three(-102.0)]
    bvae = [three(-105.0), three(-102.5), [-101.9, -102.1, None], three(-103.5), three(-104.0)]
    rows = [*runs_of("bvae", bvae), *runs_of("vae", vae)]
    frame = compare(rows)
    star = frame[frame["best"]].set_index("arm")["learning_rate"].to_dict()
    assert star == {"bvae": rate(1), "vae": rate(3)}
    [group] = group_runs(rows)
    for found in map(choose, group.arms.values()):
        assert (found.best, found.moved) == (rate(2), True)
        assert found.chosen == pytest.approx(rate(1), rel=1e-12)


def test_an_arm_that_fails_a_step_above_is_moved_as_one_that_fails_at_its_best():
    """As on Fashion-MNIST: the star moved only the arm that failed at its best rate."""
    vae = [three(-103.0), three(-101.0), [-99.9, -100.1, None], [-100.5, None, None]]
    bvae = [three(-105.0), three(-102.5), three(-102.0), [-103.0, -103.0, None]]
    rows = [*runs_of("bvae", bvae), *runs_of("vae", vae)]
    frame = compare(rows)
    assert frame[frame["best"]].set_index("arm")["learning_rate"].to_dict() == {"bvae": rate(2), "vae": rate(1)}
    [group] = group_runs(rows)
    assert [choose(of_arm).chosen for of_arm in group.arms.values()] == pytest.approx([rate(1), rate(1)], rel=1e-12)


# --- the grids of a study ---------------------------------------------------------------------------------------------


def test_runs_become_grids_with_their_means_spreads_and_failures():
    table = [[-101.0, -103.0], [-100.0, None], [None, None]]
    rows = [*runs_of("vae", table), *runs_of("bvae", table), *runs_of("vae", table, network="relu")]
    groups = group_runs(rows)
    assert [(group.family, group.dataset, group.latent_dim, list(group.arms)) for group in groups] == [
        ("mlp", "fake_validation", 3, ["bvae", "vae"]),  # arms in the order of the suite
        ("mlp", "fake_validation", 3, ["vae"]),
    ]
    found = groups[0].arms["vae"]
    assert [tried.rate for tried in found] == [rate(0), rate(1), rate(2)]
    assert [tried.mean for tried in found] == pytest.approx([-102.0, -100.0, math.nan], nan_ok=True)
    assert [tried.sd for tried in found] == pytest.approx([math.sqrt(2), math.nan, math.nan], nan_ok=True)
    assert [(len(tried.elbos), tried.failures) for tried in found] == [(2, 0), (1, 1), (0, 2)]


def test_a_finished_run_without_an_elbo_has_failed():
    rows = runs_of("vae", [[-101.0, -103.0], [-100.0, -99.0]])
    rows[0]["elbo"] = None
    rows[1]["elbo"] = math.nan
    assert [tried.failures for tried in group_runs(rows)[0].arms["vae"]] == [2, 0]


def test_each_arm_may_have_recipes_of_its_own():
    """A rate for each arm: what counts is the rate that a run had."""
    rows = [result("a-1", "vae", 0.002, -100.0), result("a-2", "vae", 0.001, -100.5), result("a-3", "vae", 0.0014, -99)]
    assert [tried.rate for tried in group_runs(rows)[0].arms["vae"]] == [0.001, 0.0014, 0.002]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0.002, 0.004, 0.008], ["0.00283", "0.00566"]),
        ([0.001, 0.00145], ["0.00141"]),  # 2.5 % off
        ([0.001, 0.0012, 0.0014], ["0.00141"]),
        ([0.004], ["0.00566"]),
    ],
)
def test_rates_that_are_no_grid_are_refused_with_those_expected(given, expected):
    rows = [result(f"mlp-{at}", "vae", at, -100.0) for at in given]
    with pytest.raises(InputError) as error:
        group_runs(rows)
    message = str(error.value)
    assert all(shown(at) in message for at in given) and all(at in message for at in expected)
    assert message.startswith("mlp on fake_validation, latent dimension 3, vae: found")


@pytest.mark.parametrize("given", [[0.001, 0.0014, 0.002, 0.0028, 0.004, 0.0057, 0.008], [0.001, 0.00144]])
def test_rounded_rates_are_a_grid(given):
    rows = [result(f"mlp-{at}", "vae", at, -100.0) for at in given]
    assert [tried.rate for tried in group_runs(rows)[0].arms["vae"]] == given


def test_an_arm_that_lacks_a_rate_of_the_others_is_refused():
    rows = [*runs_of("bvae", [three(-100.0)] * 3), *runs_of("vae", [three(-100.0)] * 2)]
    with pytest.raises(InputError, match=r"latent dimension 3, vae: found .*0\.001, 0\.00141; expected .*0\.002"):
        group_runs(rows)


def test_seeds_that_differ_between_rates_are_refused():
    with pytest.raises(InputError, match="vae: found the seeds 0, 1 at the rate 0.001 and 0, 1, 2 at 0.00141"):
        group_runs(runs_of("vae", [[-100.0, -101.0], three(-99.0), three(-100.0)]))


def test_a_run_that_is_there_twice_is_refused():
    rows = runs_of("vae", [three(-100.0)] * 2)
    with pytest.raises(InputError, match=r"0\.001 with seed 0 twice, in the recipes mlp-0 and twin-0"):
        group_runs([*rows, rows[0] | {"recipe": "twin-0"}])


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"), [(0.00212132, "0.00212"), (0.002, "0.002"), (0.0056568, "0.00566"), (3.2e-5, "0.000032")]
)
def test_rates_are_shown_with_three_digits_that_yaml_reads_as_numbers(value, text):
    assert shown(value) == text
    assert yaml.safe_load(text) == float(text)


def test_every_missing_rate_is_asked_for_once():
    rows = [*runs_of("bvae", [[-100.0], [-101.0], [-102.0]]), *runs_of("vae", [[-102.0], [-101.0], [-100.0]])]
    rows += runs_of("vae_narrow", [[-102.0], [-101.0], [-100.0]])
    [group] = group_runs(rows)
    low, high = to_add(group, {arm: choose(of_arm) for arm, of_arm in group.arms.items()})
    assert "add 0.000707 to mlp on fake_validation" in low and "bvae" in low and "vae_narrow" not in low
    assert "add 0.00283 to mlp on fake_validation" in high and "vae, vae_narrow" in high


def make_study(folder, tables: dict[str, list[list[float | None]]], **changes) -> dict:
    """A finished study that tunes, its runs below a folder: ELBOs by arm, rate of the grid and seed."""
    rows = [row for arm, table in tables.items() for row in runs_of(arm, table)]
    count, seeds = len(tables["bvae"]), list(range(len(tables["bvae"][0])))
    block = {"datasets": ["mnist_validation"], "latent_dims": [3], "arms": list(tables), "seeds": seeds}
    recipe = {"network": {"architecture": "mlp", "hidden": [16]}, "importance": SHORT_SWEEP}
    recipes = {
        f"mlp-{k}": recipe | {"training": {"epochs": 2, "batch_size": 20, "learning_rate": rate(k)}}
        for k in range(count)
    }
    config = {"study": "s", "tuning": True, "blocks": [block | {"recipes": list(recipes)}], "recipes": recipes}
    (folder / "config").mkdir()
    (folder / "config/s.yaml").write_text(yaml.safe_dump(config | changes))
    study = check(json.loads(json.dumps(config)))
    for row in rows:
        row["dataset"] = "mnist_validation"
        row["settings"] = {key: value for key, value in study["recipes"][row["recipe"]].items() if key != "importance"}
    write_results(study, rows, folder)
    (folder / "workflow").symlink_to(ROOT / "workflow")
    return study


TOP_AT_1_5 = [[mean] for mean in curve(1.5, count=4)]  # the best two are equal


def test_the_command_prints_the_rates_to_paste(tmp_path, monkeypatch, capsys):
    make_study(tmp_path, {"bvae": [[mean] for mean in curve(1.25, count=4)], "vae": TOP_AT_1_5})
    monkeypatch.chdir(tmp_path)
    assert main(["rates", "config/s.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    pasted = yaml.safe_load(lines[-1])["learning_rate"]
    assert pasted == {"bvae": float(f"{rate(1.25):.3g}"), "vae": float(f"{rate(1.5):.3g}")}
    cells = [line.split() for line in lines]
    assert ["bvae", "0.002", "-100.17", "–", "1", "0"] in cells
    assert ["bvae", "0.00141", "0.00154", "0.00154", "no", "0.300", "0.300", "–", "–", "–"] in cells


def test_the_command_ends_in_status_1_after_printing_what_to_add(tmp_path, monkeypatch, capsys):
    make_study(tmp_path, {"bvae": [[-103.0], [-102.0], [-101.0], [-100.0]], "vae": TOP_AT_1_5})
    monkeypatch.chdir(tmp_path)
    assert main(["rates", "config/s.yaml"]) == 1
    said = capsys.readouterr()
    assert "add 0.004 to mlp on mnist_validation" in said.out and "add 0.004 to mlp on mnist_validation" in said.err
    cells = [line.split() for line in said.out.splitlines()]
    assert ["bvae", "0.00283", "–", "–", "no", "–", "–", "–", "–", "0.004"] in cells
    assert ["vae", "0.00141", "0.00168", "0.00168", "no", "0.300", "0.300", "–", "–", "–"] in cells
    assert "learning_rate" not in said.out


def test_the_report_takes_the_runs_of_the_study(tmp_path):
    study = make_study(tmp_path, {"bvae": [[-103.0, -103.2], [-102.0, -102.2], [-102.5, None]]})
    text, requests = report(study, tmp_path)
    assert requests == []
    assert yaml.safe_load(text.splitlines()[-1]) == {"learning_rate": {"bvae": 0.001}}
    cells = [line.split() for line in text.splitlines()]
    assert ["bvae", "0.00141", "0.00141", "0.001", "yes", "–", "–", "-1.000", "–", "–"] in cells


def test_runs_that_are_missing_or_a_study_that_does_not_tune_are_refused(tmp_path):
    study = make_study(tmp_path, {"bvae": TOP_AT_1_5})
    with pytest.raises(InputError, match="tuning: true"):
        report(study | {"tuning": False}, tmp_path)
    next(tmp_path.glob("results/runs/mlp-2-*/*/*/validation.json")).unlink()
    with pytest.raises(InputError, match="is missing"):
        report(study, tmp_path)


def test_the_published_grids_of_factors_of_two_are_refused():
    with pytest.raises(InputError, match="expected 0.002, 0.00283, 0.004, 0.00566, 0.008"):
        rates.check_grid("mlp", {"vae": [0.002, 0.004, 0.008]})
