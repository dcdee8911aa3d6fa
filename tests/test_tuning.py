"""Settings are chosen on held-out training images: their ELBO, its table, and nothing that touches a test image."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from bvae.errors import InputError
from bvae.evaluation.evaluate import evaluate_run, validate_run
from bvae.report.publication import newest, publish
from bvae.report.published_data import rebuild
from bvae.report.tuning import compare, draw, printed, write_tuning
from bvae.runs import Run, train_run
from bvae.study.runs import publication, results_paths
from bvae.system.files import read_json, write_json
from helpers.small import SETTINGS, SHORT_SWEEP
from helpers.tuning_results import result, write_results

CPU = torch.device("cpu")


ROWS = [
    result("mlp-10", "bvae", 0.001, -103.0),
    result("mlp-10", "bvae", 0.001, -105.0, seed=1),
    result("mlp-10", "vae", 0.001, -100.0),
    result("mlp-10", "vae", 0.001, -101.0, seed=1),
    result("mlp-20", "bvae", 0.002, -103.5),
    result("mlp-20", "bvae", 0.002, -103.7, seed=1),
    result("mlp-20", "vae", 0.002, -99.0),  # the highest, but its other seed diverged
    result("mlp-20", "vae", 0.002, None, seed=1),
    result("relu-20", "bvae", 0.002, -90.0, network="relu"),
]


def test_the_best_rate_has_the_highest_mean_and_no_run_that_diverged():
    frame = compare(ROWS).set_index(["recipe", "arm"])
    assert frame["elbo"].to_dict() == {
        ("mlp-10", "bvae"): -104.0,
        ("mlp-10", "vae"): -100.5,
        ("mlp-20", "bvae"): -103.6,
        ("mlp-20", "vae"): -99.0,
        ("relu-20", "bvae"): -90.0,
    }
    assert frame["best"][frame["best"]].index.tolist() == [("mlp-10", "vae"), ("mlp-20", "bvae"), ("relu-20", "bvae")]
    assert frame.loc[("mlp-20", "vae"), ["n", "diverged"]].tolist() == [1, 1]
    assert frame["family"].tolist() == ["mlp"] * 4 + ["relu"]


def test_lines_of_two_latent_dimensions_are_told_apart():
    assert "Latents" not in printed(compare(ROWS))
    frame = printed(compare([*ROWS, *(row | {"latent_dim": 7} for row in ROWS)]))
    assert frame["Latents"].tolist() == ["3", "3", "3", "7", "7", "7"]
    assert not frame.duplicated().any()


def test_each_width_has_a_best_rate_of_its_own():
    """Recipes of a block with widths have the rate in the middle of their name."""
    networks = [(width, {"hidden": [width]}) for width in (8, 16)]
    rows = [
        result(f"mlp-{rate:.0f}-w{width}", "vae", rate / 1000, -100.0 - abs(rate - width), network=network)
        for width, network in networks
        for rate in (8.0, 16.0)
    ]
    frame = compare(rows).query("best")
    assert frame[["family", "learning_rate"]].to_numpy().tolist() == [["mlp-w8", 0.008], ["mlp-w16", 0.016]]


def test_the_picture_spans_the_sound_rates_and_says_what_lies_below():
    """A collapse beside a diverged seed flattens nothing: it is a number at the foot, by the cross of the other."""
    rows = [*ROWS[:4], result("mlp-80", "bvae", 0.008, -384.2), result("mlp-80", "bvae", 0.008, None, seed=1)]
    axes = draw(compare(rows)).axes[0]
    low, high = axes.get_ylim()
    assert low == pytest.approx(-104 - 0.35 * 3.5)  # sound are the means -104.0 and -100.5
    assert -100.5 < high < -99
    assert [text.get_text() for text in axes.texts] == ["-384"]
    crosses = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "x"]
    assert crosses == [0.008]


def test_the_picture_is_drawn_where_every_run_diverged():
    axes = draw(compare([result("mlp-10", arm, 0.001, None) for arm in ("bvae", "vae")])).axes[0]
    assert [line.get_marker() for line in axes.lines].count("x") == 2


@pytest.fixture
def tuned(tmp_path) -> dict:
    """A study that tunes, its runs below a folder."""
    recipes = {row["recipe"]: row["settings"] | {"importance": SHORT_SWEEP} for row in ROWS}
    block = {"datasets": ["fake_validation"], "latent_dims": [3], "arms": ["bvae", "vae"]}
    blocks = [
        block | {"recipes": ["mlp-10", "mlp-20"], "seeds": [0, 1]},
        block | {"recipes": ["relu-20"], "arms": ["bvae"], "seeds": [0]},
    ]
    study = {"study": "s", "version": 1, "title": "Rates", "tuning": True, "blocks": blocks, "recipes": recipes}
    write_results(study, ROWS, tmp_path)
    return study


def test_the_table_of_rates_is_written_and_published(tuned, tmp_path):
    folder = tmp_path / "results/studies/s"
    write_tuning(tuned, folder, tmp_path)
    table = pd.read_csv(folder / "tuning.csv")
    assert len(table) == 5
    shown = (folder / "tuning.html").read_text()
    for cell in ("-104.00 ± 1.41<", "-100.50 ± 0.71*<", "-103.60 ± 0.14*<", "-99.00 (1 diverged)<", "-90.00*<"):
        assert cell in shown
    assert "held out" in shown and "on the test images" not in shown
    publish(tuned, tmp_path / "published/s-1", tmp_path)
    publish(tuned, tmp_path / "published/s-1", tmp_path)  # again: the same runs
    manifest = read_json(tmp_path / "published/s-1/manifest.json")
    names = {"data.json.gz", "tuning.csv", "tuning.png"}
    assert set(manifest["files"]) == names
    assert {path.name for path in (tmp_path / "published/s-1").iterdir()} == names | {"manifest.json"}
    rebuild(tmp_path / "published/s-1", tmp_path / "rebuilt")
    for name in ("tuning.csv", "tuning.tex", "tuning.html", "tuning.svg"):
        assert (tmp_path / "rebuilt" / name).read_bytes() == (folder / name).read_bytes()
    assert len(manifest["runs"]) == 9
    assert all(set(files) == {"validation.json", "model.safetensors"} for files in manifest["runs"].values())


def test_a_published_version_keeps_its_runs(tuned, tmp_path):
    """What was cited is not overwritten: other runs are another version, beside it."""
    write_tuning(tuned, tmp_path / "results/studies/s", tmp_path)
    publish(tuned, tmp_path / publication(tuned), tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "results/published/s-1").iterdir()}
    path = tmp_path / results_paths(tuned, tmp_path)["mlp-10/fake_validation/bvae-z3-seed0"]
    write_json(path, read_json(path) | {"elbo": -102.0})
    write_tuning(tuned, tmp_path / "results/studies/s", tmp_path)
    with pytest.raises(InputError, match="s-1: other runs are published as version 1 of this study. Raise `version`"):
        publish(tuned, tmp_path / publication(tuned), tmp_path)
    assert {path: path.read_bytes() for path in (tmp_path / "results/published/s-1").iterdir()} == before
    tuned["version"] = 2
    with pytest.raises(InputError, match=r"made_from/tuning.json was made from settings"):
        publish(tuned, tmp_path / publication(tuned), tmp_path)
    write_tuning(tuned, tmp_path / "results/studies/s", tmp_path)
    publish(tuned, tmp_path / publication(tuned), tmp_path)
    assert newest(tmp_path / "results/published") == {"s": tmp_path / "results/published/s-2"}
    assert {path: path.read_bytes() for path in (tmp_path / "results/published/s-1").iterdir()} == before


def test_the_bytes_of_the_table_and_the_picture_are_the_same_every_time(tuned, tmp_path):
    for folder in ("a", "b"):
        write_tuning(tuned, tmp_path / folder, tmp_path)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_runs_of_other_settings_are_refused(tuned, tmp_path):
    """Those of a changed study are not there; a file that was put there is compared with what it says of itself."""
    path = tmp_path / results_paths(tuned, tmp_path)["mlp-20/fake_validation/vae-z3-seed1"]
    write_json(path, read_json(path) | {"latent_dim": 4})
    with pytest.raises(InputError, match="vae-z3-seed1/validation.json was made from latent_dim 4"):
        write_tuning(tuned, tmp_path / "out", tmp_path)
    tuned["recipes"]["mlp-20"]["training"]["epochs"] = 3
    with pytest.raises(InputError, match=r"results/runs/mlp-20-\w+/fake_validation/bvae-z3-seed0/.* is missing"):
        write_tuning(tuned, tmp_path / "out", tmp_path)


def test_the_elbo_of_a_validated_run_is_that_of_its_evaluation(fake, tmp_path):
    held_out = replace(fake, source="here --validation 100")
    train_run(Run("r", SETTINGS, fake.name, "bvae", 3, 0), fake, tmp_path)
    row = validate_run(tmp_path, held_out, device=CPU)
    whole = evaluate_run(tmp_path, fake, [], importance=SHORT_SWEEP, device=CPU).row
    assert row | {"empty": whole["empty"], "tasks": whole["tasks"]} == {key: whole[key] for key in row}
    assert row["tasks"].items() <= whole["tasks"].items()
    assert {"elbo", "reconstruction", "kl"} <= row.keys() and "probe_accuracy" not in row


def test_a_diverged_run_is_recorded_without_an_elbo(fake, tmp_path):
    wild = SETTINGS | {"training": SETTINGS["training"] | {"learning_rate": 1e6, "epochs": 4}}
    assert train_run(Run("r", wild, fake.name, "vae", 3, 0), fake, tmp_path) == "diverged"
    row = validate_run(tmp_path, replace(fake, source="here --validation 100"), device=CPU)
    assert row["status"] == "diverged" and "elbo" not in row


def test_test_images_choose_no_settings(fake, tmp_path):
    train_run(Run("r", SETTINGS, fake.name, "bvae", 3, 0), fake, tmp_path)
    with pytest.raises(InputError, match="fake: found the test images of here, wanted training images held out"):
        validate_run(tmp_path, fake, device=CPU)
