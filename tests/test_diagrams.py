"""Diagrams: shapes and counts are those of the networks, nothing overlaps, and they come out the same every time."""

import io
import itertools
import math
from pathlib import Path

import matplotlib.style
import numpy as np
import pytest
import torch
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from bvae.arms import ARMS
from bvae.networks import VAE, Convolution, parameter_breakdown
from bvae.report.figures import _diagrams as diagrams
from bvae.report.figures._page import STYLE, WIDTH, Subject
from bvae.report.figures.architecture import architecture
from bvae.report.figures.belbo_training import belbo_training
from bvae.report.figures.blocks import blocks
from bvae.runs import Run, build_model
from helpers.small import make_dataset

PAPER = yaml.safe_load((Path(__file__).parents[1] / "config/paper.yaml").read_text())["recipes"]["resnet-celeba64"]
CASES = {  # network, channels and pixels of the image, latent dimension
    "mlp": ({"architecture": "mlp", "hidden": [12]}, 1, 8, 3),
    "one layer": ({"architecture": "mlp", "hidden": []}, 3, 4, 2),
    "conv": ({"architecture": "conv", "width": 4, "neck": 3, "hidden": [10], "normalization": "batch"}, 1, 28, 5),
    "deep": ({"architecture": "resnet", "width": 4, "neck": 3, "hidden": [10, 9], "blocks": 16}, 1, 32, 5),
    "bounded": ({"architecture": "mlp", "hidden": [12], "log_variance_bound": 7.5}, 1, 8, 3),
    "paper": (PAPER["network"], 3, 64, 128),
}
KINDS = {kind.__name__: kind for kind in (architecture, belbo_training, blocks)}
OBJECTIVE = {"name": "elbo", "beta": 1}


@pytest.fixture(autouse=True)
def in_a_folder_with_the_style_of_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with matplotlib.style.context(["default", STYLE]):
        yield


def make_run(case: str, arm: str, objective: dict | None = None) -> Run:
    network, _, _, latent_dim = CASES[case]
    settings = {"network": network, "likelihood": {"name": "auto"}, "objective": objective or OBJECTIVE}
    return Run("recipe", settings, "fake", arm, latent_dim, seed=2)


def make_subject(case: str, arm: str = "bvae", objective: dict | None = None) -> Subject:
    """A subject of a network that nothing has trained."""
    run, (_, channels, size, latent_dim) = make_run(case, arm, objective), CASES[case]
    dataset = make_dataset(10, 10, channels=channels, size=size)
    return Subject("recipe", dataset, latent_dim, {}, 2, {}, run.settings)


def build(case: str, arm: str) -> VAE:
    _, channels, size, _ = CASES[case]
    return build_model(make_run(case, arm), channels=channels, size=size)[0]


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in texts(figure))


def drawn_weights(figure: Figure, colour: str) -> int:
    patches = [patch for patch in figure.findobj(Rectangle) if patch.get_label() == "weights"]
    return sum(patch.get_facecolor() == to_rgba(colour) for patch in patches)


def test_a_perceptron_by_hand():
    """8x8 pixels, 12 hidden, 3 latents."""
    weights, head, biases = 64 * 12 + 12 * 3, 12 * 3 + 3, (12 + 3) + (12 + 64)
    tied, untied = weights + head + biases, 2 * weights + head + biases
    assert (tied, untied) == (934, 1738)
    text = words(architecture(make_subject("mlp")))
    assert "934 parameters" in text and "1,738 parameters" in text and "46.3 % fewer" in text
    assert "804 weights in both passes + 39 in the log-variance head (4.2 %) + 91 biases and the like" in text
    assert "1,608 weights in one pass each + 39 in the log-variance head (2.2 %) + 91 biases and the like" in text


@pytest.mark.parametrize("case", CASES)
def test_counts_and_shapes_are_those_of_the_models(case):
    tied, untied = build(case, "bvae"), build(case, "vae")
    figure, totals = architecture(make_subject(case)), [parameter_breakdown(m)["total"] for m in (tied, untied)]
    text = words(figure)
    for total in totals:
        assert f"{total:,} parameters" in text
    assert f"{100 * (1 - totals[0] / totals[1]):.1f} % fewer" in text
    shapes = {"×".join(map(str, p.shape)) for p in tied.encoder_weights.parameters()}
    assert all(shape in text for shape in shapes)
    assert "×".join(map(str, tied.encoder.log_variance.weight.shape)) in text
    count = len(list(tied.encoder_weights.parameters()))
    assert drawn_weights(figure, ARMS["bvae"].colour) == count
    assert drawn_weights(figure, diagrams.PALE) == 2 * count
    training = belbo_training(make_subject(case, arm="vae"))
    assert drawn_weights(training, ARMS["bvae"].colour) == count
    assert all(shape in words(training) for shape in shapes)


def test_a_resnets_layers_map_what_they_say():
    text = words(architecture(make_subject("deep")))
    for line in (
        "conv 3×3\n36\n1×32×32 → 4×32×32",
        "conv 4×4, stride 2\n512\n4×32×32 → 8×16×16",
        f"16 residual blocks\n{32 * 8 * 8 * 9:,}\n8×16×16 → 8×16×16",
        "conv 1×1\n96\n32×4×4 → 3×4×4",
        "linear\n480\n3×4×4 → 10",
        "linear\n90\n10 → 9",
        "linear, mean head\n45\n9 → 5",
    ):
        assert line in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_text_is_legible_inside_the_page_and_apart(case, kind):
    figure = KINDS[kind](make_subject(case))
    width, height = figure.get_size_inches()
    assert width == WIDTH and height <= 8
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = {text: text.get_window_extent(renderer) for text in texts(figure)}
    for text, box in boxes.items():
        assert text.get_fontsize() >= 6.5
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        assert not (a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1), (one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_drawing_has_the_same_bytes(kind):
    subject, drawn = make_subject("conv"), []
    for _ in range(2):
        with io.BytesIO() as file:
            KINDS[kind](subject).savefig(file, format="svg", metadata={"Date": None})
            drawn.append(file.getvalue())
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("case", "shown", "said"),
    [
        ("mlp", ["linear layer"], "This network has no convolution and no residual block."),
        ("conv", ["convolution", "linear layer"], "This network has no residual block."),
        ("deep", ["convolution", "residual block", "linear layer"], ""),
    ],
)
def test_blocks_shows_what_the_network_has_and_says_what_it_lacks(case, shown, said):
    text = words(blocks(make_subject(case)))
    for name in ("convolution", "residual block", "linear layer"):
        assert (f"Bidirectional {name}" in text) == (name in shown)
    assert said in text and ("This network has no" in text) == bool(said)


def test_blocks_counts_convolutions_inside_residual_blocks():
    text = words(blocks(make_subject("deep")))  # 3 halvings of 16 blocks; a stem, 3 strided, a neck
    assert "Bidirectional convolution, the first of 101 in this network" in text
    assert "Bidirectional residual block, the first of 48 in this network" in text
    assert "Bidirectional linear layer, the first of 3 in this network" in text


@pytest.mark.parametrize(("case", "stride"), [("conv", 2), ("deep", 1)])
def test_the_drawn_window_is_what_a_unit_reads(case, stride):
    inputs, masks, outputs = (mesh.get_array() for mesh in blocks(make_subject(case)).findobj(QuadMesh)[:3])
    convolution = next(m for m in build(case, "bvae").encoder_weights if isinstance(m, Convolution))
    assert convolution.stride == stride and masks.shape == convolution.weight.shape[2:] and masks.all()
    x = torch.zeros(1, convolution.weight.shape[1], *inputs.shape, requires_grad=True)
    y = convolution.encode(x)
    assert y.shape[2:] == outputs.shape
    (y[0] * torch.from_numpy(outputs.data)).sum().backward()
    np.testing.assert_array_equal(x.grad[0, 0] != 0, inputs.data == 1)
    assert inputs.sum() == math.prod(masks.shape)


@pytest.mark.parametrize(("name", "beta"), [("iwae", 1), ("beta_tc", 6), ("elbo", 4)])
def test_another_objective_is_named(name, beta):
    said = f"This recipe puts the loss of {name} (beta = {beta}) in place of -BELBO"
    told = " ".join(words(belbo_training(make_subject("mlp", objective={"name": name, "beta": beta}))).split())
    assert said in told
    assert "in place of" not in words(belbo_training(make_subject("one layer")))


@pytest.mark.parametrize("kind", [architecture, belbo_training])
def test_a_bound_on_the_log_variance_is_told(kind):
    assert "ln s² = 7.5 tanh(l / 7.5)" in " ".join(words(kind(make_subject("bounded"))).split())
    assert "tanh" not in words(kind(make_subject("mlp")))
