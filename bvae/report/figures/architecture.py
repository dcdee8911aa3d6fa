"""The BVAE beside the matched VAE: layers, shapes and parameters."""

from bvae.report.figures import figure


@figure(
    category="6 Networks and training",
    network=True,
    caption="The BVAE beside the matched VAE: layers, shapes and parameters, counted on the networks themselves.",
)
def architecture(subject):
    """The BVAE beside the matched VAE: layers, shapes and parameters."""
    import numpy as np

    from bvae.report.figures._diagrams import (
        FORK,
        GAP,
        LEFT,
        RECONSTRUCTION,
        RIGHT,
        ROW,
        bars,
        bound_note,
        box,
        by,
        inches,
        stack,
        untrained_arms,
        walk,
        write,
    )
    from bvae.report.figures._page import MARGIN, WIDTH, page

    tied, untied = untrained_arms(subject)
    layers, top = walk(tied), 0.68
    heads = top + (len(layers) - 1) * ROW + FORK
    latents = heads + ROW - GAP + 0.17
    tall = latents + 1.45
    caption = (
        "Dark blue: weights that both passes share; pale: weights of one pass, as the log-variance head of every"
        " encoder. The untied VAE has each layer twice. Biases and normalisation belong to one pass each."
        + bound_note(tied)
    )
    figure, place = page(subject, "Architecture", caption, tall)
    axes = inches(place(0, 0, WIDTH, tall), tall)
    image, wide, middle = by(layers[0].before), 1.9, LEFT + 2.15
    single = (RIGHT - middle - 0.1) / 2
    write(axes, MARGIN, top - 0.16, "layer")
    write(axes, LEFT - 0.1, top - 0.16, "weights", ha="right")
    for index, layer in enumerate(layers):
        last = index == len(layers) - 1
        y = heads if last else top + index * ROW
        write(axes, MARGIN, y + 0.06, layer.name + ", mean head" * last)
        write(axes, LEFT - 0.1, y + 0.06, f"{sum(map(np.prod, layer.tensors)):,}", ha="right")
        write(axes, MARGIN, y + 0.19, f"{by(layer.before)} → {by(layer.after)}", color="0.35")
    columns: dict[str, list[tuple[float, float, tuple[str, ...]]]] = {  # left, width, directions
        "BVAE, one set of weights": [(LEFT, wide, ("forward", "backward"))],
        "VAE, two sets of weights": [(middle, single, ("forward",)), (RIGHT - single, single, ("backward",))],
    }
    for name, stacks in columns.items():
        left, right = stacks[0][0], stacks[-1][0] + stacks[-1][1]
        half = (right - left - 0.1) / 2
        write(axes, (left + right) / 2, 0.1, name, ha="center", fontsize=8, fontweight="bold")
        box(axes, left, top - 0.43, half, 0.3, f"encode $x$\n{image}")
        box(axes, right - half, top - 0.43, half, 0.3, f"decode {RECONSTRUCTION}\n{image}")
        for column in stacks:
            stack(axes, layers, column[0], column[1], top, column[2])
        box(axes, left, latents, right - left, 0.22, f"$z$ = mean + $s$ · noise,  {by(layers[-1].after)} latents")
    bars(axes, latents + 0.5, tied, untied)
    return figure
