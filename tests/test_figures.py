"""Figures: what they show is what the models give, and they come out the same every time."""

import math
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from bvae.arms import ARMS
from bvae.data import dataset as data
from bvae.errors import InputError
from bvae.evaluation import protocol
from bvae.evaluation.draws import interpolation_pairs, prior_samples
from bvae.evaluation.evaluate import evaluate_run
from bvae.evaluation.trained import decode_images, posterior_means
from bvae.report.drawing import draw
from bvae.report.figures import FIGURES
from bvae.report.figures import _page as page
from bvae.report.figures import _pictures as pictures
from bvae.report.figures import _plots as plots
from bvae.report.figures._page import find_subject
from bvae.report.figures._pictures import Strip, embed, tile, why_no_map
from bvae.report.figures._plots import axis_floor, spread
from bvae.runs import Run, load_run, read_record, save_model, train_run
from bvae.study.config import check_study
from bvae.study.runs import expand_runs, group_paths, results_paths, training_settings
from bvae.system.files import sha256_of_file, write_json
from helpers.run_results import made_today
from helpers.small import SHORT_SWEEP, make_dataset

ROOT = Path(__file__).parents[1]
TWO = ["bvae", "vae"]  # arms
BLOCK = {"datasets": ["fake"], "recipes": ["tiny"], "latent_dims": [3], "arms": TWO, "seeds": [4, 2]}


def make_study(**changes) -> dict:
    """A checked study: two arms, two seeds, one epoch."""
    recipe = {
        "network": {"architecture": "mlp", "hidden": [12]},
        "likelihood": {"name": "bernoulli"},
        "precision": "float32",
        "threads": 1,
        "training": {"epochs": 1, "batch_size": 30, "learning_rate": 0.003},
        "importance": SHORT_SWEEP,
    }
    study = {"study": "test", "blocks": [BLOCK], "recipes": {"tiny": recipe}} | changes
    return check_study(study, datasets=["fake"])


@pytest.fixture
def study(tmp_path, monkeypatch, fake) -> dict:
    """Run the test in a folder with resources/data/fake.safetensors and the four trained runs of a study."""
    monkeypatch.chdir(tmp_path)
    data.save(fake, "resources/data/fake.safetensors")
    study = make_study()
    for run in expand_runs(study):
        path = results_of(run["arm"], run["seed"])
        train_run(
            Run(**run, settings=training_settings(study["recipes"]["tiny"], run["arm"])),
            fake,
            path.parent,
            device="cpu",
        )
        write_results(run["arm"], run["seed"])
    return study


def results_of(arm: str, seed: int) -> Path:
    """The metrics of a run of the study, beside its model."""
    study = make_study(blocks=[BLOCK | {"arms": [arm], "seeds": [seed]}])
    [path] = results_paths(study).values()
    return Path(path)


def write_results(arm: str, seed: int, **metrics) -> None:
    """Write the metrics of a run of the study, as of today, beside its model; without any, those of `fake_metrics`."""
    study = make_study(blocks=[BLOCK | {"arms": [arm], "seeds": [seed]}])
    [run], path = expand_runs(study), results_of(arm, seed)
    metrics = metrics or fake_metrics(arm, seed)
    about = made_today(study, run, make_dataset(120, 100).sha256, metrics["status"])
    write_json(path, about | {"model_sha256": sha256_of_file(path.parent / "model.safetensors")} | metrics)


def fake_metrics(arm: str, seed: int, **changes) -> dict:
    """What evaluation could say of a finished run."""
    tied = arm == "bvae"
    return {
        "status": "finished",
        "parameters": 269_329 if tied else 520_353,
        "reconstruction": 70.0 + seed + tied,
        "probe_accuracy": 0.944 + 0.01 * seed,  # 0.964 for the shown seed, 2
        "fd_classifier_samples": 20.0 + seed**2,
        "fd_classifier_interpolations": 30.0 - seed,
        "fd_classifier_images": 100,
        "kl_bits_per_pixel": 0.3 + 0.01 * seed,
        "mse_per_pixel": 0.02 - 0.001 * seed,
        "backward_mse_per_pixel": 0.02 - 0.001 * seed if tied else 0.25,
        "variance_per_latent": [0.0, 0.005, 0.5 + seed] if tied else [0.02, 0.6, 0.7],
        "active_units": 1 if tied else 3,
        "empty": {},
    } | changes


def change_metrics(**changes) -> None:
    """Give every run other metrics."""
    for arm in TWO:
        for seed in (2, 4):
            write_results(arm, seed, **fake_metrics(arm, seed, **changes))


def panels(figure: matplotlib.figure.Figure) -> dict:
    """The axes of a figure by title."""
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}


def legend_of(figure: matplotlib.figure.Figure) -> list[str]:
    """What the one legend of a figure says."""
    (legend,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    return [text.get_text() for text in legend.get_texts()]


def subject_of(study: dict, dataset: data.Dataset) -> page.Subject:
    return find_subject(study, "tiny", dataset, 3)


def mark_diverged(arm: str, seed: int) -> None:
    """Make a run what one that diverged leaves behind."""
    folder = results_of(arm, seed).parent
    model, record = load_run(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    save_model(model, folder / "model.safetensors", record | {"status": "diverged"})
    header, *_ = (folder / "history.csv").read_text().splitlines()
    (folder / "history.csv").write_text(f"{header}\n1,nan,nan,nan,nan,0.1\n")
    write_results(arm, seed, status="diverged")


def words(figure: matplotlib.figure.Figure) -> str:
    """All text of a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def shown(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    """One image (c, h, w) of a picture tiled from grey 8-pixel images with gaps of 1."""
    cell = picture[9 * row : 9 * row + 8, 9 * column : 9 * column + 8]
    assert (cell == cell[..., :1]).all()
    return cell[..., 0][None]


def test_arms_and_classes_are_told_apart():
    looks_of_arms = [{getattr(arm, look) for arm in ARMS.values()} for look in ("colour", "dash", "marker", "label")]
    assert all(len(looks) == len(ARMS) for looks in looks_of_arms)
    assert len(set(pictures.CLASS_COLOURS)) == len(pictures.CLASS_COLOURS)


@pytest.mark.parametrize("kind", FIGURES)
def test_a_figure_is_the_same_bytes_every_time(study, kind):
    folder = Path("results/studies/test/figures/tiny/fake-z3")
    if FIGURES[kind].network:
        folder = Path(group_paths(study)[0]["network"])
    with matplotlib.rc_context():
        draw([kind], study)
        first = {path: path.read_bytes() for path in sorted(folder.glob(f"{kind}.*"))}
        matplotlib.rcParams["font.size"] = 20  # a user's own settings change nothing
        draw([f"{folder.name}/{kind}"], study)
        assert matplotlib.rcParams["font.size"] == 20
    assert {path: path.read_bytes() for path in folder.iterdir()} == first
    assert sorted(path.suffix[1:] for path in first) == sorted(FIGURES[kind].suffixes)
    png, svg = (next(path for path in first if path.suffix == suffix) for suffix in (".png", ".svg"))
    with Image.open(png) as image:
        assert 1000 <= image.width <= 1500 and 200 <= image.height <= 1500
        assert np.ptp(np.asarray(image.convert("L"))) > 200  # something is drawn
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")


def test_reconstructions_show_test_images_and_what_the_models_decode(study, fake):
    strips = pictures.reconstruction_strips(subject_of(study, fake))
    assert [strip.arm for strip in strips] == [None, *TWO]
    cpu = torch.device("cpu")
    for strip in strips:
        expected = fake.test_images[:10]
        if strip.arm:
            model, _ = load_run(results_of(strip.arm, 2).parent)
            expected = decode_images(model, posterior_means(model, expected, cpu), cpu)
        picture = tile(strip, 8, 1)
        for column in range(10):
            np.testing.assert_array_equal(shown(picture, 0, column), expected[column])


def test_the_figure_draws_the_tiled_strips(study, fake):
    subject = subject_of(study, fake)
    drawn = [image.get_array() for axes in FIGURES["reconstructions"].draw(subject).axes for image in axes.get_images()]
    for picture, strip in zip(drawn, pictures.reconstruction_strips(subject), strict=True):
        np.testing.assert_array_equal(picture, tile(strip, 8, 1))


def test_tiles_keep_order_colour_and_white_gaps():
    images = torch.randint(0, 255, (13, 3, 4, 4), dtype=torch.uint8)
    picture = tile(Strip("vae", images, rows=2), 4, 2)
    assert picture.shape == (2 * 6 - 2, 10 * 6 - 2, 3)
    np.testing.assert_array_equal(picture[6:10, 12:16], images[12].permute(1, 2, 0))
    assert (picture[:, 4:6] == 255).all() and (picture[4:6] == 255).all() and (picture[6:, 18:] == 255).all()


def test_interpolations_run_from_one_reconstruction_to_the_other(study, fake):
    strips = pictures.interpolation_strips(subject_of(study, fake))
    assert [strip.arm for strip in strips] == TWO * 2
    assert [bool(strip.heads) for strip in strips] == [True, False, True, False]
    cpu = torch.device("cpu")
    pairs = interpolation_pairs("fake", len(fake.test_images), 2).T.repeat_interleave(2, dim=0)
    for strip, pair in zip(strips, pairs, strict=True):
        ends = fake.test_images[pair]
        model, _ = load_run(results_of(strip.arm, 2).parent)
        means = posterior_means(model, ends, cpu)
        assert len(strip.images) == 10
        assert torch.equal(strip.images[[0, -1]], ends)
        reconstructed = decode_images(model, means, cpu)
        # another batch size may round a pixel differently
        assert (strip.images[[1, -2]].int() - reconstructed.int()).abs().max() <= 1
        third = decode_images(model, means[:1] + (means[1:] - means[:1]) * 2 / 7, cpu)
        assert (strip.images[3].int() - third[0].int()).abs().max() <= 1


def test_samples_of_all_arms_come_from_the_same_latents(study, fake):
    strips = pictures.sample_strips(subject_of(study, fake))
    z = prior_samples("fake", 2, 20, 3)
    assert [strip.arm for strip in strips] == TWO
    for strip in strips:
        model, _ = load_run(results_of(strip.arm, 2).parent)
        assert torch.equal(strip.images, decode_images(model, z, torch.device("cpu")))
        np.testing.assert_array_equal(shown(tile(strip, 8, 1), 1, 9), strip.images[19])


def test_curves_are_medians_over_seeds_within_their_range(study, fake):
    median, low, high = spread([np.array([-9.0, -3.0]), np.array([-5.0, -4.0])])
    assert (median.tolist(), low.tolist(), high.tolist()) == ([-7, -3.5], [-9, -4], [-5, -3])
    for arm in TWO:  # histories of two epochs
        for seed, elbos in ((2, (-9, -3)), (4, (-5, -4))):
            rows = [f"{epoch},{elbo},0,0,0,0.1" for epoch, elbo in enumerate(elbos, start=1)]
            text = "\n".join(["epoch,elbo,log_likelihood,kl,gradient_norm,learning_rate", *rows]) + "\n"
            (results_of(arm, seed).parent / "history.csv").write_text(text)
    lines = FIGURES["training_curves"].draw(subject_of(study, fake)).axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["BVAE (n = 2)", "VAE (n = 2)"]
    for line, arm in zip(lines, TWO, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), [[1, -7], [2, -3.5]])
        assert line.get_color() == ARMS[arm].colour


def test_the_axis_leaves_out_first_epochs_and_no_arm():
    steep = -1000 * 0.5 ** np.arange(100) - 100
    assert -101 < axis_floor([steep]) < -100
    assert axis_floor([steep, np.full(100, -300.0)]) == -300  # a bad arm stays in sight
    assert axis_floor([np.array([-5.0, -4.0])]) == -5  # too few epochs to leave one out
    assert axis_floor([np.array([-190.0, -115, -107, -104, -102, -100, -98, -97])]) == -115


def test_a_seed_that_broke_down_for_a_while_flattens_no_curve(study, fake):
    """As a run on Fashion-MNIST did, at -2e10 nats in one epoch: the line is the other seeds', the axis theirs."""
    calm = np.linspace(-300, -235, 12)
    wild = calm.copy()
    wild[5:7] = -2e10
    for arm in TWO:
        for seed, elbos in ((2, wild), (4, calm), (6, calm)):
            folder = results_of(arm, seed).parent
            rows = [f"{epoch},{elbo},0,0,0,0.1" for epoch, elbo in enumerate(elbos, start=1)]
            if seed == 6:
                shutil.copytree(folder.with_name(folder.name.replace("seed6", "seed4")), folder)
            text = "\n".join(["epoch,elbo,log_likelihood,kl,gradient_norm,learning_rate", *rows]) + "\n"
            (folder / "history.csv").write_text(text)
    axes = FIGURES["training_curves"].draw(subject_of(make_study(blocks=[BLOCK | {"seeds": [2, 4, 6]}]), fake)).axes[0]
    for line in axes.get_lines():
        np.testing.assert_allclose(line.get_ydata(), calm)
    assert -310 < axes.get_ylim()[0] < -235


def test_the_encoder_run_backward_is_a_tied_arms_decoder_and_no_other(study, fake):
    subject = subject_of(study, fake)
    ordinary = pictures.reconstruction_strips(subject)
    strips = pictures.reconstruction_strips(subject, pictures.decode_backward)
    assert [strip.arm for strip in strips] == [None, *TWO]
    assert torch.equal(strips[0].images, fake.test_images[:10])
    assert torch.equal(strips[1].images, ordinary[1].images)
    assert not torch.equal(strips[2].images, ordinary[2].images)
    model, _ = load_run(results_of("vae", 2).parent)
    model.decoder_weights = model.encoder_weights  # a BVAE now
    means = posterior_means(model, fake.test_images[:10], torch.device("cpu"))
    assert torch.equal(strips[2].images, decode_images(model, means, torch.device("cpu")))
    figure = FIGURES["backward"].draw(subject)
    drawn = [image.get_array() for axes in figure.axes for image in axes.get_images()]
    for picture, strip in zip(drawn, strips, strict=True):
        np.testing.assert_array_equal(picture, tile(strip, 8, 1))
    text = " ".join(words(figure).split())
    assert "BVAE 0.0180 (0.0180), VAE 0.2500 (0.0180). Seed 2, n = 1" in text and "100 test images" in text


def test_quality_shows_every_seed_and_the_t_interval_of_their_mean(study, fake):
    figure = FIGURES["quality"].draw(subject_of(study, fake))
    expected = {  # of seeds 2 and 4, BVAE then VAE
        "Reconstruction": ([73, 75], [72, 74], "lower"),
        "Linear probe": ([96.4, 98.4], [96.4, 98.4], "higher"),
        "Interpolation": ([28, 26], [28, 26], "lower"),
        "Generation": ([24, 36], [24, 36], "lower"),
    }
    assert list(panels(figure)) == list(expected)
    for title, (*values, better) in expected.items():
        axes = panels(figure)[title]
        assert f"{better} is better" in axes.get_ylabel()
        assert [text.get_text() for text in axes.get_xticklabels()] == ["269 k", "520 k"]
        points = [line for line in axes.get_lines() if line.get_markersize() == 3.5]
        for arm, line, bars, y in zip(TWO, points, axes.containers, values, strict=True):
            count = fake_metrics(arm, 2)["parameters"]
            assert (line.get_color(), line.get_marker()) == (ARMS[arm].colour, ARMS[arm].marker)
            np.testing.assert_allclose(line.get_xydata(), [[count, y[0]], [count, y[1]]])
            np.testing.assert_allclose(bars.lines[0].get_xydata(), [[count, np.mean(y)]])
            low, high = stats.t.interval(0.95, 1, np.mean(y), stats.sem(y))
            np.testing.assert_allclose(bars.lines[2][0].get_segments()[0], [[count, low], [count, high]])
            assert axes.get_ylim()[0] < low < high < axes.get_ylim()[1]
    assert legend_of(figure) == ["BVAE (n = 2): 269,329 parameters", "VAE (n = 2): 520,353 parameters"]
    text = " ".join(words(figure).split())
    assert "100 test images" in text and "seeds (2, 4)" in text and "BVAE by -16 pt" in text


def test_points_stand_aside_by_points_of_the_page(study, fake):
    figure = FIGURES["quality"].draw(subject_of(study, fake))
    axes = panels(figure)["Generation"]
    places = [bars.lines[0].get_transform().transform(bars.lines[0].get_xydata())[0, 0] for bars in axes.containers]
    true = [axes.transData.transform((fake_metrics(arm, 2)["parameters"], 0))[0] for arm in TWO]
    np.testing.assert_allclose(np.subtract(places, true) * 72 / figure.dpi, [-16 + 2.5, 2.5])


def test_one_seed_has_no_interval():
    assert plots.half_interval(np.array([3.0])) == 0
    assert plots.half_interval(np.array([1.0, 2.0, 6.0])) == pytest.approx(4.302652729749464 * 7**0.5 / 3**0.5)


def test_quality_prefers_fid_and_says_why_a_panel_is_empty(study, fake):
    change_metrics(fid_samples=12.0, fid_interpolations=13.0, fid_images=100)
    for title in ("Interpolation", "Generation"):
        assert panels(FIGURES["quality"].draw(subject_of(study, fake)))[title].get_ylabel() == "FID, lower is better"
    change_metrics(fid_samples=None, empty={"fid_samples": "images of 8 pixels"})
    figure = FIGURES["quality"].draw(subject_of(study, fake))
    assert panels(figure)["Generation"].get_ylabel() == "FD classifier, lower is better"
    assert "images of 8 pixels" not in words(figure)
    reasons = {
        "fid_samples": "images of 8 pixels",
        "fd_classifier_samples": "few images",
        "probe_accuracy": "no labels",
    }
    nothing = dict.fromkeys([*reasons, "fd_classifier_interpolations"])
    change_metrics(**nothing, empty=reasons)
    figure = FIGURES["quality"].draw(subject_of(study, fake))
    found = {title: [text.get_text() for text in axes.texts] for title, axes in panels(figure).items()}
    both = ["images of 8 pixels\nfew images"]
    assert found == {"Reconstruction": [], "Linear probe": ["no labels"], "Interpolation": both, "Generation": both}
    assert "Fréchet" not in words(figure)
    change_metrics(**nothing)
    assert words(FIGURES["quality"].draw(subject_of(study, fake))).count("not part of this study") == 3


def test_the_probe_of_attributes_is_called_balanced(study, fake):
    attributes = torch.zeros(100, 3, dtype=torch.uint8)
    figure = FIGURES["quality"].draw(subject_of(study, replace(fake, test_attributes=attributes)))
    assert panels(figure)["Linear probe"].get_ylabel() == "balanced accuracy (%), higher is better"


def test_rate_and_distortion_are_those_of_every_seed_and_their_mean(study, fake):
    figure = FIGURES["rate_distortion"].draw(subject_of(study, fake))
    seeds = [[0.32, 0.018], [0.34, 0.016]]
    for arm, line, mean in zip(TWO, *(figure.axes[0].get_lines()[i::2] for i in (0, 1)), strict=True):
        assert line.get_marker() == mean.get_marker() == ARMS[arm].marker
        np.testing.assert_allclose(line.get_xydata(), seeds)
        np.testing.assert_allclose(mean.get_xydata(), [np.mean(seeds, axis=0)])
    assert legend_of(figure) == ["BVAE (n = 2)", "VAE (n = 2)"]


def test_every_label_has_room_beside_pictures():
    """From the edge of the page to the mark of the arm, 0.16 inches before its pictures."""
    with matplotlib.style.context(["default", page.STYLE]):
        figure = Figure(dpi=100)
        widths = {arm.label: figure.text(0, 0, arm.label).get_window_extent().width / 100 for arm in ARMS.values()}
    assert max(widths.values()) < page.LABELS - 0.16, widths


def test_histograms_of_variances_count_every_latent_once(study, fake):
    figure = FIGURES["latent_variances"].draw(subject_of(study, fake))
    steps = [step.get_data() for step in figure.axes[0].patches]
    edges = steps[0].edges
    assert (edges[0], edges[-1]) == (1e-8, 10)  # from the least, where a variance of 0 is counted, to above 4.5
    for step, active in zip(steps, (1, 3), strict=True):
        assert step.values.sum() == pytest.approx(3)
        threshold = np.argmin(abs(edges - protocol.ACTIVE_UNIT_VARIANCE))
        assert edges[threshold] == pytest.approx(0.01) and step.values[threshold:].sum() == active
    bvae_counts = {int(np.floor(np.log10(edges[i]) + 0.01)): n for i, n in enumerate(steps[0].values) if n}
    assert bvae_counts == {-8: 1, -3: 1, 0: 0.5} and list(steps[0].values).count(0.5) == 2
    line = figure.axes[0].get_lines()[0]
    assert list(line.get_xdata()) == [0.01, 0.01] and "active above 0.01" in words(figure)
    assert legend_of(figure) == ["BVAE (n = 2): 1.0 of 3 active", "VAE (n = 2): 3.0 of 3 active"]


@pytest.mark.parametrize(("noise", "line"), [(0.5, "1.00 norm² + 0.5"), (-0.5, "1.00 norm² - 0.5")])
def test_the_gains_of_a_linear_network_are_on_the_line_of_ppca(study, fake, noise, line):
    """Gains of 1 / (norm² + s²) make diag(gain) Wᵀ the posterior mean of probabilistic PCA, and a line of slope 1.

    A fitted line can have a negative intercept, which no s² is.
    """
    study = make_study(blocks=[BLOCK | {"arms": ["bvae_gain"]}])
    norms = torch.tensor([1.0, 2.0, 4.0])
    for seed in (4, 2):
        folder = results_of("bvae_gain", seed).parent
        run = Run("tiny", study["recipes"]["tiny"], "fake", "bvae_gain", 3, seed)
        train_run(run, fake, folder, device="cpu")
        model, record = load_run(folder)
        with torch.no_grad():
            weight = torch.linalg.qr(model.encoder_weights[-1].weight.T)[0].T * norms[:, None]  # orthogonal rows
            model.encoder_weights[-1].weight.copy_(weight)
            model.encoder.latent_gain.copy_(-1 / (norms**2 + noise))  # a sign of its own scales nothing
        save_model(model, folder / "model.safetensors", record)
        write_results("bvae_gain", seed)
    posterior = torch.linalg.solve(weight @ weight.T + noise * torch.eye(3), weight)
    torch.testing.assert_close(posterior, weight / (norms**2 + noise)[:, None])
    subject = subject_of(study, fake)
    table = plots.gain_table(subject)
    assert list(table["seed"]) == [2, 2, 2, 4, 4, 4] and list(table["latent"]) == [0, 1, 2] * 2
    np.testing.assert_allclose(table["norm"], [1, 2, 4] * 2, rtol=1e-6)
    assert table["active"].all() and list(table["variance"]) == [0.02, 0.6, 0.7] * 2
    np.testing.assert_allclose(plots.gain_lines(table), [[1, noise, 1]] * 2, rtol=1e-5)
    figure = FIGURES["latent_gains"].draw(subject)
    assert legend_of(figure) == ["6 latents of 2 seeds", f"{line}, correlation 1.000", "strict BVAE"]
    points = [[1, 1 + noise], [4, 4 + noise], [16, 16 + noise]]
    np.testing.assert_allclose(figure.axes[0].get_lines()[0].get_xydata()[:3], points, rtol=1e-5)
    draw(["latent_gains"], study)
    pd.testing.assert_frame_equal(
        pd.read_csv("results/studies/test/figures/tiny/fake-z3/latent_gains.csv"),
        table.reset_index(drop=True),
        check_dtype=False,
    )


def test_inactive_latents_are_not_on_the_line():
    table = pd.DataFrame({"seed": 0, "norm": [1.0, 2.0, 3.0, 9.0], "gain": [1 / 3, 1 / 9, 1 / 19, 5.0]})
    [(slope, intercept, correlation)] = plots.gain_lines(table.assign(active=[True, True, True, False]))
    assert (slope, intercept, correlation) == pytest.approx((2, 1, 1))
    assert plots.gain_lines(table.assign(active=[True, True, False, False])).shape == (0, 3)


def test_without_gains_their_figure_says_so(study, fake):
    assert "no active latent of a BVAE with gains" in words(FIGURES["latent_gains"].draw(subject_of(study, fake)))


def test_tsne_tells_classes_and_accuracy(study, fake):
    figure = FIGURES["tsne"].draw(subject_of(study, fake))
    text = " ".join(words(figure).split())
    assert "VAE: probe accuracy 96.4 %" in text and "100 test images" in text and "Seed 2, n = 1" in text
    legend = next(axes.get_legend() for axes in figure.axes if axes.get_legend())
    handles = dict(zip([t.get_text() for t in legend.get_texts()], legend.legend_handles, strict=True))
    assert sorted(handles) == list("abcdefghij")
    points = figure.axes[0].collections[0]
    assert len(points.get_offsets()) == 100
    for label, name in enumerate("abcdefghij"):  # the legend's colours are those of the points, ten of each class
        colour = handles[name].get_facecolor()[0][:3]
        assert (points.get_facecolor()[:, :3] == colour).all(axis=1).sum() == (fake.test_labels == label).sum()


def test_tsne_of_unlabelled_images_has_one_colour_and_says_so(study, fake):
    unlabelled = make_dataset(120, 12, labels=False)
    figure = FIGURES["tsne"].draw(subject_of(study, replace(unlabelled, sha256=fake.sha256)))
    assert "in one colour (no classes)" in words(figure)
    assert not any(axes.get_legend() for axes in figure.axes)


NORMAL = np.random.default_rng(0).normal(size=(9, 3))


@pytest.mark.parametrize("means", [NORMAL[:, :1], NORMAL[:4], NORMAL[[0] * 8 + [1]], NORMAL * [1, 0, 0]])
def test_degenerate_latents_are_embedded(means):
    assert why_no_map(means.astype(np.float32)) is None
    points = embed(means.astype(np.float32))
    assert points.shape == (len(means), 2) and np.isfinite(points).all()


@pytest.mark.parametrize(
    ("means", "reason"),
    [
        (np.full((360, 5), 0.7), "the same"),  # scikit-learn's tree never ends, or the map shows the random start
        (np.full((9, 3), 1 / 3), "the same"),
        (NORMAL[:3], "3 test images"),
        (NORMAL[:1], "1 test images"),
        (NORMAL * [1, np.nan, 1], "not finite"),
        (NORMAL * 1e25, "too large"),
    ],
)
def test_latents_without_a_map_say_why(means, reason):
    assert reason in why_no_map(means.astype(np.float32))


def break_models(study: dict, dataset: data.Dataset, value: float) -> None:
    """Fill the encoder's weights of every run of a study, as training may leave them, and evaluate the runs."""
    for run in expand_runs(study):
        path = results_of(run["arm"], run["seed"])
        model, record = load_run(path.parent)
        with torch.no_grad():
            for parameter in model.encoder_weights.parameters():
                parameter.fill_(value)
        save_model(model, path.parent / "model.safetensors", record)
        write_json(path, evaluate_run(path.parent, dataset, [], importance=SHORT_SWEEP, device=torch.device("cpu")).row)


DRAWN = [name for name, kind in FIGURES.items() if not kind.network and kind.arm is None]


@pytest.mark.parametrize(("value", "reason"), [(0.0, "the same"), (math.nan, "not finite")], ids=["dead", "no numbers"])
def test_every_figure_is_drawn_of_broken_models(study, fake, value, reason):
    break_models(study, fake, value)
    draw(DRAWN, study)
    panel = FIGURES["tsne"].draw(subject_of(study, fake)).axes[0]
    assert not panel.collections
    assert reason in panel.texts[0].get_text()


def test_every_figure_is_drawn_of_one_test_image(study, fake):
    splits = {name: tensor[:20] if "train" in name else tensor[:1] for name, tensor in fake.tensors().items()}
    single = data.make(**splits, name="fake", classes=fake.classes, source="here", licence="none")
    data.save(single, "resources/data/fake.safetensors")
    for run in expand_runs(study):
        path = results_of(run["arm"], run["seed"])
        train_run(
            Run(**run, settings=training_settings(study["recipes"]["tiny"], run["arm"])),
            single,
            path.parent,
            device="cpu",
        )
    break_models(study, single, 0.1)
    draw(DRAWN, study)
    assert "1 test image" in words(FIGURES["interpolations"].draw(subject_of(study, single)))
    assert "1 test images; a map needs 4" in words(FIGURES["tsne"].draw(subject_of(study, single)))


def test_an_empty_metric_of_one_seed_hides_no_other(study, fake):
    write_results("vae", 4, **fake_metrics("vae", 4, reconstruction=None, kl_bits_per_pixel=None))
    mean = FIGURES["rate_distortion"].draw(subject_of(study, fake)).axes[0].get_lines()[-1]
    np.testing.assert_allclose(mean.get_xydata(), [[0.32, 0.018]])  # of seed 2
    drawn = panels(FIGURES["quality"].draw(subject_of(study, fake)))["Reconstruction"]
    assert [len(line.get_xdata()) for line in drawn.get_lines() if line.get_markersize() == 3.5] == [2, 1]  # seeds


def test_diverged_runs_are_empty_and_labelled(study, fake):
    mark_diverged("vae", 2)
    subject = subject_of(study, fake)
    for strips in (pictures.reconstruction_strips, pictures.sample_strips, pictures.interpolation_strips):
        assert all((strip.images is None) == (strip.arm == "vae") for strip in strips(subject))
    for kind, count in (("reconstructions", 1), ("backward", 1), ("samples", 1), ("interpolations", 2), ("tsne", 1)):
        assert words(FIGURES[kind].draw(subject)).split("\n").count("diverged") == count
    line = FIGURES["training_curves"].draw(subject).axes[0].get_lines()[1]
    assert line.get_label() == "VAE (n = 1, 1 diverged)" and np.isfinite(line.get_ydata()).all()
    for kind in ("quality", "rate_distortion", "latent_variances"):
        assert legend_of(FIGURES[kind].draw(subject))[1].startswith("VAE (n = 1, 1 diverged)")
    bars = panels(FIGURES["quality"].draw(subject))["Reconstruction"].containers
    assert [bar.has_yerr for bar in bars] == [True, False]
    assert bars[1].lines[0].get_ydata() == 74
    assert list(FIGURES["rate_distortion"].draw(subject).axes[0].get_lines()[2].get_xdata()) == [pytest.approx(0.34)]
    assert FIGURES["latent_variances"].draw(subject).axes[0].patches[1].get_data().values.sum() == pytest.approx(3)
    for arm, seed in (("bvae", 2), ("bvae", 4), ("vae", 4)):
        mark_diverged(arm, seed)
    assert words(FIGURES["quality"].draw(subject)).count("no finished run") == 4
    assert legend_of(FIGURES["latent_variances"].draw(subject)) == [
        "BVAE (n = 0, 2 diverged)",
        "VAE (n = 0, 2 diverged)",
    ]
    draw(FIGURES, study)
    drawn = [*Path("results/studies/test/figures/tiny/fake-z3").iterdir(), *Path("results/networks").glob("*/*/*.*g")]
    assert len(drawn) == sum(len(figure.suffixes) for figure in FIGURES.values())


def test_the_seed_is_the_studys_or_the_least(study, fake):
    assert subject_of(study, fake).seed == 2
    assert subject_of(make_study(figure_seed=4), fake).seed == 4
    assert "Seed 4, n = 1" in words(FIGURES["samples"].draw(subject_of(make_study(figure_seed=4), fake)))


def test_figures_of_no_runs_and_of_other_data_are_refused(study, fake):
    with pytest.raises(InputError, match="no run of recipe tiny, dataset fake, latent_dim 5"):
        find_subject(study, "tiny", fake, 5)
    with pytest.raises(InputError, match="trained on another fake"):
        FIGURES["samples"].draw(subject_of(study, replace(fake, sha256="0" * 64)))
    assert read_record(results_of("vae", 2).parent / "model.safetensors")["status"] == "finished"


def test_a_figure_of_outdated_or_missing_runs_is_refused(study):
    """Drawn by hand, too: the workflow asks for figures only when their runs are as of today."""
    folder, row = results_of("vae", 2).parent, fake_metrics("vae", 2)
    draw(["training_curves"], study)
    before = {path: path.read_bytes() for path in Path("results/studies").rglob("training_curves.*")}
    write_results("vae", 2, **row | {"dataset_sha256": "0" * 64})
    with pytest.raises(InputError, match=f"{folder}/metrics.+ was made from dataset_sha256 0000"):
        draw(["training_curves"], study)
    write_results("vae", 2, **row | {"model_sha256": "1" * 64})
    with pytest.raises(InputError, match=f"{folder}/metrics.+ was made from model_sha256 1111"):
        draw(["samples"], study)
    results_of("vae", 2).unlink()
    with pytest.raises(InputError, match=f"{folder}/metrics.+ is missing"):
        draw(["quality"], study)
    assert {path: path.read_bytes() for path in Path("results/studies").rglob("*g")} == before
    draw(["architecture"], study)  # of a network before training: of no run
