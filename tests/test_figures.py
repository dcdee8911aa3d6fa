"""Figures: what they show is what the models give, and they come out the same every time."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from conftest import make_dataset
from PIL import Image

import bvae
from bvae import data, figures
from bvae.config import check_study, expand_runs, load_schema, run_folder
from bvae.evaluation import decode_images, interpolation_pairs, posterior_means, prior_samples
from bvae.figures import FIGURES, Strip, axis_floor, draw, embed, find_subject, spread, tile
from bvae.files import InputError, write_json
from bvae.runs import Run, load_run, read_record, save_model, train_run

ROOT = Path(__file__).parents[1]
ARMS = ["bvae", "vae"]


def make_study(**changes) -> dict:
    """A checked study: two arms, two seeds, one epoch."""
    block = {"datasets": ["fake"], "recipes": ["tiny"], "latent_dims": [3], "arms": ARMS, "seeds": [4, 2]}
    recipe = {
        "network": {"architecture": "mlp", "hidden": [12]},
        "likelihood": {"name": "bernoulli"},
        "precision": "float32",
        "threads": 1,
        "training": {"epochs": 1, "batch_size": 30, "learning_rate": 0.003},
    }
    study = {"study": "test", "blocks": [block], "recipes": {"tiny": recipe}} | changes
    return check_study(study, schema=load_schema(ROOT / "workflow/schemas/config.schema.yaml"), datasets=["fake"])


@pytest.fixture
def study(tmp_path, monkeypatch, fake) -> dict:
    """Run the test in a folder with fake.safetensors and the four trained runs of a study."""
    monkeypatch.chdir(tmp_path)
    data.save(fake, "fake.safetensors")
    study = make_study()
    for run in expand_runs(study):
        folder = Path(run_folder(**run))
        train_run(Run(**run, settings=study["recipes"]["tiny"]), fake, folder, device="cpu")
        write_json(folder / "metrics.json", {"probe_accuracy": 0.964})
    return study


def subject_of(study: dict, dataset: data.Dataset) -> figures.Subject:
    return find_subject(study, "tiny", dataset, 3)


def mark_diverged(arm: str, seed: int) -> None:
    """Make a run what one that diverged leaves behind."""
    folder = Path(run_folder("tiny", "fake", arm, 3, seed))
    model, record = load_run(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    save_model(model, folder / "model.safetensors", record | {"status": "diverged"})
    header, *_ = (folder / "history.csv").read_text().splitlines()
    (folder / "history.csv").write_text(f"{header}\n1,nan,nan,nan,nan,0.1\n")
    write_json(folder / "metrics.json", {"status": "diverged"})


def words(figure: matplotlib.figure.Figure) -> str:
    """All text of a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def shown(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    """One image (c, h, w) of a picture tiled from grey 8-pixel images with gaps of 1."""
    cell = picture[9 * row : 9 * row + 8, 9 * column : 9 * column + 8]
    assert (cell == cell[..., :1]).all()
    return cell[..., 0][None]


def test_the_names_of_the_figures_are_those_that_the_workflow_asks_for():
    assert tuple(FIGURES) == bvae.FIGURES
    assert figures.ARM_COLOURS.keys() == figures.ARM_DASHES.keys() == figures.ARM_NAMES.keys() == set(bvae.ARMS)
    for looks in (figures.ARM_COLOURS.values(), figures.ARM_DASHES.values(), figures.CLASS_COLOURS):
        assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("kind", bvae.FIGURES)
def test_a_figure_is_two_files_of_the_same_bytes_every_time(study, kind):
    with matplotlib.rc_context():
        draw(kind, study, "tiny", Path("fake.safetensors"), 3, Path("first/v1.0"))
        matplotlib.rcParams["font.size"] = 20  # a user's own settings change nothing
        draw(kind, study, "tiny", Path("fake.safetensors"), 3, Path("second/v1.0"))
        assert matplotlib.rcParams["font.size"] == 20
    assert sorted(path.name for path in Path("first").iterdir()) == ["v1.0.png", "v1.0.svg"]
    for suffix in ("svg", "png"):
        assert Path(f"first/v1.0.{suffix}").read_bytes() == Path(f"second/v1.0.{suffix}").read_bytes()
    with Image.open("first/v1.0.png") as image:
        assert 1000 <= image.width <= 1500 and 200 <= image.height <= 1500
        assert np.ptp(np.asarray(image.convert("L"))) > 200  # something is drawn
    assert ElementTree.parse("first/v1.0.svg").getroot().tag.endswith("svg")


def test_reconstructions_show_test_images_and_what_the_models_decode(study, fake):
    strips = figures.reconstruction_strips(subject_of(study, fake))
    assert [strip.arm for strip in strips] == [None, *ARMS]
    cpu = torch.device("cpu")
    for strip in strips:
        expected = fake.test_images[:10]
        if strip.arm:
            model, _ = load_run(run_folder("tiny", "fake", strip.arm, 3, 2))
            expected = decode_images(model, posterior_means(model, expected, cpu), cpu)
        picture = tile(strip, 8, 1)
        for column in range(10):
            np.testing.assert_array_equal(shown(picture, 0, column), expected[column])


def test_the_figure_draws_the_tiled_strips(study, fake):
    subject = subject_of(study, fake)
    drawn = [image.get_array() for axes in figures.reconstructions(subject).axes for image in axes.get_images()]
    for picture, strip in zip(drawn, figures.reconstruction_strips(subject), strict=True):
        np.testing.assert_array_equal(picture, tile(strip, 8, 1))


def test_tiles_keep_order_colour_and_white_gaps():
    images = torch.randint(0, 255, (13, 3, 4, 4), dtype=torch.uint8)
    picture = tile(Strip("vae", images, rows=2), 4, 2)
    assert picture.shape == (2 * 6 - 2, 10 * 6 - 2, 3)
    np.testing.assert_array_equal(picture[6:10, 12:16], images[12].permute(1, 2, 0))
    assert (picture[:, 4:6] == 255).all() and (picture[4:6] == 255).all() and (picture[6:, 18:] == 255).all()


def test_interpolations_run_from_one_reconstruction_to_the_other(study, fake):
    strips = figures.interpolation_strips(subject_of(study, fake))
    assert [strip.arm for strip in strips] == ARMS * 2
    assert [bool(strip.heads) for strip in strips] == [True, False, True, False]
    cpu = torch.device("cpu")
    pairs = interpolation_pairs("fake", len(fake.test_images), 2).T.repeat_interleave(2, dim=0)
    for strip, pair in zip(strips, pairs, strict=True):
        ends = fake.test_images[pair]
        model, _ = load_run(run_folder("tiny", "fake", strip.arm, 3, 2))
        means = posterior_means(model, ends, cpu)
        assert len(strip.images) == 10
        assert torch.equal(strip.images[[0, -1]], ends)
        reconstructed = decode_images(model, means, cpu)
        # another batch size may round a pixel differently
        assert (strip.images[[1, -2]].int() - reconstructed.int()).abs().max() <= 1
        third = decode_images(model, means[:1] + (means[1:] - means[:1]) * 2 / 7, cpu)
        assert (strip.images[3].int() - third[0].int()).abs().max() <= 1


def test_samples_of_all_arms_come_from_the_same_latents(study, fake):
    strips = figures.sample_strips(subject_of(study, fake))
    z = prior_samples("fake", 2, 20, 3)
    assert [strip.arm for strip in strips] == ARMS
    for strip in strips:
        model, _ = load_run(run_folder("tiny", "fake", strip.arm, 3, 2))
        assert torch.equal(strip.images, decode_images(model, z, torch.device("cpu")))
        np.testing.assert_array_equal(shown(tile(strip, 8, 1), 1, 9), strip.images[19])


def test_curves_are_means_over_seeds_within_their_range(study, fake):
    mean, low, high = spread([np.array([-9.0, -3.0]), np.array([-5.0, -4.0])])
    assert (mean.tolist(), low.tolist(), high.tolist()) == ([-7, -3.5], [-9, -4], [-5, -3])
    for arm in ARMS:  # histories of two epochs
        for seed, elbos in ((2, (-9, -3)), (4, (-5, -4))):
            rows = [f"{epoch},{elbo},0,0,0,0.1" for epoch, elbo in enumerate(elbos, start=1)]
            text = "\n".join(["epoch,elbo,log_likelihood,kl,gradient_norm,learning_rate", *rows]) + "\n"
            (Path(run_folder("tiny", "fake", arm, 3, seed)) / "history.csv").write_text(text)
    lines = figures.training_curves(subject_of(study, fake)).axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["BVAE (n = 2)", "VAE (n = 2)"]
    for line, arm in zip(lines, ARMS, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), [[1, -7], [2, -3.5]])
        assert line.get_color() == figures.ARM_COLOURS[arm]


def test_the_axis_leaves_out_first_epochs_and_no_arm():
    steep = -1000 * 0.5 ** np.arange(100) - 100
    assert -101 < axis_floor([steep]) < -100
    assert axis_floor([steep, np.full(100, -300.0)]) == -300  # a bad arm stays in sight
    assert axis_floor([np.array([-5.0, -4.0])]) == -5  # too few epochs to leave one out
    assert axis_floor([np.array([-190.0, -115, -107, -104, -102, -100, -98, -97])]) == -115


def test_tsne_tells_classes_and_accuracy(study, fake):
    figure = figures.tsne(subject_of(study, fake))
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
    figure = figures.tsne(subject_of(study, replace(unlabelled, sha256=fake.sha256)))
    assert "in one colour (no classes)" in words(figure)
    assert not any(axes.get_legend() for axes in figure.axes)


@pytest.mark.parametrize("means", [np.random.default_rng(0).normal(size=(9, 1)), np.zeros((9, 3))])
def test_degenerate_latents_are_embedded(means):
    points = embed(means.astype(np.float32))
    assert points.shape == (9, 2) and np.isfinite(points).all()


def test_diverged_runs_are_empty_and_labelled(study, fake):
    mark_diverged("vae", 2)
    subject = subject_of(study, fake)
    for strips in (figures.reconstruction_strips, figures.sample_strips, figures.interpolation_strips):
        assert all((strip.images is None) == (strip.arm == "vae") for strip in strips(subject))
    for kind, count in (("reconstructions", 1), ("samples", 1), ("interpolations", 2), ("tsne", 1)):
        assert words(FIGURES[kind](subject)).split("\n").count("diverged") == count
    line = figures.training_curves(subject).axes[0].get_lines()[1]
    assert line.get_label() == "VAE (n = 1, 1 diverged)" and np.isfinite(line.get_ydata()).all()
    for arm, seed in (("bvae", 2), ("bvae", 4), ("vae", 4)):
        mark_diverged(arm, seed)
    for kind in FIGURES:
        draw(kind, study, "tiny", Path("fake.safetensors"), 3, Path(kind))


def test_the_seed_is_the_studys_or_the_least(study, fake):
    assert subject_of(study, fake).seed == 2
    assert subject_of(make_study(figure_seed=4), fake).seed == 4
    assert subject_of(make_study(figure_seed=7), fake).seed == 2
    assert "Seed 4, n = 1" in words(figures.samples(subject_of(make_study(figure_seed=4), fake)))


def test_figures_of_no_runs_and_of_other_data_are_refused(study, fake):
    with pytest.raises(InputError, match="no run of recipe tiny, dataset fake, latent_dim 5"):
        find_subject(study, "tiny", fake, 5)
    with pytest.raises(InputError, match="trained on another fake"):
        figures.samples(subject_of(study, replace(fake, sha256="0" * 64)))
    assert read_record(Path(run_folder("tiny", "fake", "vae", 3, 2)) / "model.safetensors")["status"] == "finished"
