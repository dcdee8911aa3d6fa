"""Drawings of a study's network and of its training: the shapes and counts are those of the modules themselves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from torch import nn

from bvae.arms import ARMS
from bvae.networks import VAE, Convolution, Linear, Residual, log_variance_parameters, parameter_breakdown
from bvae.report.figures._page import MARGIN, WIDTH, Look, Subject
from bvae.runs import Run, build_model

TIED, UNTIED = ARMS["bvae"].colour, ARMS["vae"].colour
PALE = "#FBEAE0"  # of UNTIED
SMALL, ROW, GAP = 6.5, 0.32, 0.05  # points; inches from one row of weights to the next, and between them
RECONSTRUCTION = r"$\hat{x}$"


@dataclass
class Layer:
    """One row of a drawing: a layer's weights or, for residual blocks of one resolution, those of all of them."""

    module: nn.Module
    tensors: list[tuple[int, ...]]  # shapes of its weights
    before: tuple[int, ...]  # (c, h, w) or (features,) on the side of the image
    after: tuple[int, ...]  # and on the side of the latents

    @property
    def name(self) -> str:
        """What kind of layer it is."""
        if isinstance(self.module, Linear):
            return "linear"
        if isinstance(self.module, Residual):
            return "residual block" if len(self.tensors) == 2 else f"{len(self.tensors) // 2} residual blocks"
        stride: Any = self.module.stride
        kernel = self.tensors[0][-1]
        return f"conv {kernel}×{kernel}" + (f", stride {stride}" if stride > 1 else "")

    @property
    def shape(self) -> str:
        """The shape of its weights, and how many there are of it."""
        times = len(self.tensors)
        return by(self.tensors[0]) if times == 1 else f"{times} × ({by(self.tensors[0])})"


def by(shape: Sequence[int]) -> str:
    """(64, 3, 4, 4) -> 64×3×4×4"""
    return "×".join(map(str, shape))


def untrained_arms(subject: Subject) -> tuple[VAE, VAE]:
    """The BVAE and the VAE of a subject as they are before training, whichever arms it has."""
    settings, data = dict(subject.settings), subject.dataset
    run = Run(subject.recipe, settings, data.name, "bvae", subject.latent_dim, 0)
    runs = [replace(run, arm=arm) for arm in ("bvae", "vae")]
    tied, untied = (build_model(run, channels=data.channels, size=data.size)[0] for run in runs)
    return tied, untied


def walk(model: VAE) -> list[Layer]:
    """The layers of a network from image to latents, with the shapes that an image takes on its way."""
    layers: list[Layer] = []
    x = torch.zeros(1, model.layout.channels, model.layout.size, model.layout.size)
    for weight in model.encoder_weights:
        tensors = [tuple(parameter.shape) for parameter in weight.parameters()]
        if isinstance(weight, Residual) and isinstance(layers[-1].module, Residual):
            layers[-1].tensors += tensors
            continue
        before = tuple(x.shape[1:])
        if not isinstance(weight, Residual):  # which keeps the shape
            encode: Any = weight.encode
            x = encode(x).detach()
        layers.append(Layer(weight, tensors, before, tuple(x.shape[1:])))
    return layers


def bound_note(model: VAE) -> str:
    """The sentence of a caption that gives the soft bound of a network's log-variance; empty where it has none."""
    bound = model.layout.log_variance_bound
    return "" if bound is None else f" The log-variance l is bounded softly: ln s² = {bound:g} tanh(l / {bound:g})."


def first(layers: Sequence[Layer], kind: type[nn.Module]) -> Layer | None:
    """The first layer of a kind, if there is one."""
    return next((layer for layer in layers if isinstance(layer.module, kind)), None)


# --- Strokes: axes in inches, from the top left -----------------------------------------------------------------------


def inches(axes: Axes, tall: float) -> Axes:
    """Axes over the whole width of a page, measured in inches from their top left."""
    axes.set(xlim=(0, WIDTH), ylim=(tall, 0))
    axes.set_axis_off()
    return axes


def write(axes: Axes, x: float, y: float, text: str, **look: Any) -> None:
    """Text around a point, in small print unless said otherwise."""
    whole: Look = {"va": "center", "fontsize": SMALL} | look
    axes.text(x, y, text, **whole)


def cells(
    axes: Axes, place: tuple[float, float], size: tuple[float, float], layer: Layer, *, tied: bool, **look: object
) -> None:
    """The weights of a layer, one cell a tensor, with their shape: dark if tied and pale if not, in grey too."""
    (left, top), (wide, tall) = place, size
    ground, edge, ink = (TIED, "white", "white") if tied else (PALE, UNTIED, "black")
    cell = wide / len(layer.tensors)
    border: Look = {"edgecolor": edge, "linewidth": min(0.8, 18 * cell)}  # in points: at most a quarter of a cell
    for index in range(len(layer.tensors)):
        axes.add_patch(Rectangle((left + index * cell, top), cell, tall, label="weights", facecolor=ground, **border))
    bare = {"facecolor": ground, "edgecolor": "none", "pad": 1.5}  # keeps the borders of the cells off the text
    write(axes, left + wide / 2, top + tall / 2, layer.shape, ha="center", color=ink, bbox=bare, **look)


def box(axes: Axes, left: float, top: float, wide: float, tall: float, text: str, *, head: bool = False) -> None:
    """Values, white and rounded; or the log-variance head, weights that the forward pass has for itself."""
    look: Look = {"facecolor": "white", "edgecolor": "0.5", "boxstyle": "round,pad=0,rounding_size=0.05"}
    if head:
        look = {"facecolor": PALE, "edgecolor": UNTIED, "boxstyle": "square,pad=0"}
    axes.add_patch(FancyBboxPatch((left, top), wide, tall, linewidth=0.8, zorder=2.5, **look))
    write(axes, left + wide / 2, top + tall / 2, text, ha="center", linespacing=1.25)


def arrow(axes: Axes, *points: tuple[float, float], gradient: bool = False) -> None:
    """An arrow along points, black in a white lane: values flow along it, or gradients if dashed."""
    end, step = np.array(points[-1]), np.subtract(points[-1], points[-2])
    neck = end - 0.07 * step / np.hypot(*step)
    x, y = zip(*points[:-1], neck, strict=True)
    axes.plot(x, y, color="white", linewidth=3.2, solid_capstyle="butt", zorder=2)
    style, width = ((0, (3, 1.5)), 1.0) if gradient else ("-", 1.3)
    axes.plot(x, y, color="black", linewidth=width, linestyle=style, solid_joinstyle="miter", zorder=3)
    head: Look = {"arrowstyle": "-|>", "mutation_scale": 8, "shrinkA": 0, "shrinkB": 0, "linewidth": width}
    axes.add_patch(FancyArrowPatch((neck[0], neck[1]), points[-1], color="black", zorder=3, **head))


# --- The paper's Figure 1: the two networks ---------------------------------------------------------------------------

LEFT, RIGHT = 1.8, WIDTH - MARGIN  # of the drawn networks
FORK = 0.14  # above the two heads


def stack(axes: Axes, layers: Sequence[Layer], left: float, wide: float, top: float, directions: Sequence[str]) -> None:
    """One set of weights from image to latents, and the directions that run through it: tied if both do."""
    tied, high, right = len(directions) == 2, ROW - GAP, left + wide
    heads = top + (len(layers) - 1) * ROW + FORK
    below, forward, backward = heads + high, left + 0.12, right - 0.12
    for index, layer in enumerate(layers[:-1]):
        cells(axes, (left, top + index * ROW), (wide, high), layer, tied=tied)
    if "forward" in directions:
        split = left + 0.45 * wide
        box(axes, left, heads, split - GAP - left, high, f"ln s² head\n{by(layers[-1].tensors[0])}", head=True)
        cells(axes, (split, heads), (right - split, high), layers[-1], tied=tied)
        mean = (split + backward) / 2
        arrow(axes, (forward, top - 0.12), (forward, heads))
        arrow(axes, (forward, heads - FORK + GAP / 2), (mean, heads - FORK + GAP / 2), (mean, heads))
        arrow(axes, ((left + split) / 2, below), ((left + split) / 2, below + 0.17))
        arrow(axes, (mean, below), (mean, below + 0.17))
    else:
        cells(axes, (left, heads), (wide, high), layers[-1], tied=tied)
    if "backward" in directions:
        arrow(axes, (backward, below + 0.17), (backward, top - 0.12))


def bars(axes: Axes, top: float, tied: VAE, untied: VAE) -> None:
    """The parameters of both networks to scale."""
    totals = [parameter_breakdown(model)["total"] for model in (tied, untied)]
    scale = (RIGHT - LEFT) / totals[1]
    for model, name, y in ((tied, "BVAE", top), (untied, "VAE", top + 0.5)):
        counts = parameter_breakdown(model)
        head = log_variance_parameters(model)
        rest = counts["total"] - counts["weights"] - head
        sets = [counts["weights"]] if model.tied else [counts["weights"] // 2] * 2
        ground = TIED if model.tied else PALE
        left = LEFT
        for count, colour in [(count, ground) for count in sets] + [(head, PALE), (rest, "0.6")]:
            look: Look = {"facecolor": colour, "edgecolor": UNTIED if colour == PALE else colour, "linewidth": 0.8}
            axes.add_patch(Rectangle((left, y), count * scale, 0.2, **look))
            left += count * scale
        write(axes, MARGIN, y + 0.1, name, fontsize=8, fontweight="bold")
        write(axes, MARGIN, y + 0.3, f"{counts['total']:,} parameters")
        passes = "both passes" if model.tied else "one pass each"
        share = f"{head:,} in the log-variance head ({100 * head / counts['total']:.1f} %)"
        weights = f"{counts['weights']:,} weights in {passes}"
        write(axes, LEFT, y + 0.3, f"{weights} + {share} + {rest:,} biases and the like")
    middle = (LEFT + totals[0] * scale + RIGHT) / 2
    for end in (LEFT + totals[0] * scale + 0.03, RIGHT):
        arrow(axes, (middle, top + 0.1), (end, top + 0.1))
    cut = f"{100 * (1 - totals[0] / totals[1]):.1f} % fewer"
    look = {"fontsize": 8, "fontweight": "bold", "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.5}}
    write(axes, middle, top + 0.1, cut, ha="center", zorder=4, **look)


# --- The paper's Figure 2: one step of training -----------------------------------------------------------------------

STEPS = (
    "① Forward pass: the weights W encode $x$ into $q_f(z|x)$. The log-variance head runs forward only.",
    "② One sample of the latents: $z$ = mean + $s$ · noise.",
    "③ Backward pass: the same W, transposed, decode $z$ into what $p_b(x|z)$ reads: $\\hat{x}$.",
    "④ $BELBO = E_{q}[\\ln\\,p_b(x|z)] - KL(q_f(z|x)\\,||\\,p(z))$ in nats. The loss is $L = -BELBO$.",
    "⑤ The gradient of $L$ runs back through both passes. In every shared W they add up:"
    "  $\\nabla_W\\,L = \\nabla_W^{encode}\\,L + \\nabla_W^{decode}\\,L$.",
    "⑥ The optimizer moves W once, by that sum; biases and the log-variance head by the gradient of their own pass.",
)


# --- The paper's Figure 3: the layers that run both ways --------------------------------------------------------------


def grid(axes: Axes, x: float, y: float, wide: float, tall: float, marked: np.ndarray, colour: str) -> None:
    """A grid of units or weights around a point; those marked are filled."""
    edges = [
        np.linspace(at - size / 2, at + size / 2, count + 1)
        for at, size, count in zip((x, y), (wide, tall), marked.shape[::-1], strict=True)
    ]
    look: Look = {"cmap": ListedColormap(["white", colour]), "vmin": 0, "vmax": 1, "edgecolor": "0.7", "linewidth": 0.6}
    axes.pcolormesh(*edges, marked, **look)


def two_ways(axes: Axes, top: float, layer: Layer, title: str, forward: str, backward: str) -> None:
    """A linear layer or a convolution: units of the image's side, weights, units of the latents' side."""
    middle, note = top + 0.93, ""
    if isinstance(layer.module, Convolution):
        kernel, stride, padding = layer.tensors[0][-1], layer.module.stride, layer.module.padding
        count = min(5, layer.after[-1])
        begin = count // 2 * stride - padding  # of the window that the middle unit sees
        inputs, outputs = np.zeros([(count - 1) * stride + kernel - 2 * padding] * 2), np.zeros((count, count))
        inputs[begin : begin + kernel, begin : begin + kernel] = outputs[count // 2, count // 2] = 1
        pictures = [(inputs, 1.0, 1.0), (np.ones((kernel, kernel)), 0.8, 0.8), (outputs, 1.0, 1.0)]
        note = f"stride {stride}, padding {padding}"
    else:
        pictures = [(np.ones((8, 1)), 0.14, 1.0), (np.ones((4, 8)), 1.2, 0.8), (np.ones((4, 1)), 0.14, 0.7)]
    for x, (marked, wide, tall), colour in zip((0.9, 3.5, 6.1), pictures, ("0.45", TIED, "0.45"), strict=True):
        grid(axes, x, middle, wide, tall, marked, colour)
    start, end = 0.9 + pictures[0][1] / 2 + 0.06, 6.1 - pictures[2][1] / 2 - 0.06
    lane = 0.8 / len(pictures[1][0])  # one row of weights off the middle
    arrow(axes, (start, middle - lane), (end, middle - lane))
    arrow(axes, (end, middle + lane), (start, middle + lane))
    write(axes, MARGIN, top + 0.08, title, fontsize=8, fontweight="bold")
    write(axes, 3.5, top + 0.36, forward, ha="center", fontsize=7)
    write(axes, 3.5, top + 1.56, backward, ha="center", fontsize=7)
    write(axes, 4.25, middle, f"W  {layer.shape}")
    write(axes, 2.75, middle, note, ha="right")
    write(axes, 0.9, top + 1.56, f"$x$  {by(layer.before)}", ha="center")
    write(axes, 6.1, top + 1.56, f"$y$  {by(layer.after)}", ha="center")


def residual(axes: Axes, top: float, layer: Layer, title: str, activation: str) -> None:
    """The two convolutions of a residual block between two lanes, each with its skip."""
    forward, backward, one = top + 0.8, top + 1.5, replace(layer, tensors=layer.tensors[:1])
    write(axes, MARGIN, top + 0.08, title, fontsize=8, fontweight="bold")
    for left, name in ((2.1, "W₁"), (4.1, "W₂")):
        cells(axes, (left, top + 0.6), (0.8, 1.1), one, tied=True)
        write(axes, left + 0.4, top + 1.0, name, ha="center", color="white")
    box(axes, 0.25, top + 0.6, 0.75, 1.1, f"$x$\n{by(layer.before)}")
    box(axes, 6.0, top + 0.6, 0.75, 1.1, f"$y$\n{by(layer.after)}")
    arrow(axes, (1.0, forward), (6.0, forward))
    arrow(axes, (6.0, backward), (1.0, backward))
    arrow(axes, (1.15, forward), (1.15, top + 0.4), (5.2, top + 0.4), (5.2, forward - 0.09))
    arrow(axes, (5.85, backward), (5.85, top + 1.9), (1.8, top + 1.9), (1.8, backward + 0.09))
    for x, y, text in (
        *((3.5, forward, "a"), (5.2, forward, "+"), (5.6, forward, "a")),
        *((3.5, backward, "a"), (1.8, backward, "+"), (1.4, backward, "a")),
    ):
        axes.add_patch(Circle((x, y), 0.09, facecolor="white", edgecolor="black", linewidth=0.8, zorder=4))
        write(axes, x, y, text, ha="center", va="center_baseline", zorder=5)
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    look = {"ha": "center", "fontsize": 7, "bbox": ground, "zorder": 4}
    write(axes, 3.5, top + 0.4, "forward: y = a(x + F(x)),  F(x) = W₂ a(W₁ x)", **look)
    write(axes, 3.5, top + 1.9, "backward: x = a(y + Fᵀ(y)),  Fᵀ(y) = W₁ᵀ a(W₂ᵀ y)", **look)
    write(axes, 3.5, top + 1.15, f"a = {activation}", ha="center")
