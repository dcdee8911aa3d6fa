"""The layers that run both ways, the first of each kind that the network has."""

from bvae.report.figures import figure


@figure(
    category="6 Networks and training",
    network=True,
    caption="The layers that run both ways, the first of each kind in this network.",
)
def blocks(subject):
    """The layers that run both ways, the first of each kind that the network has."""
    from bvae.networks import Convolution, Linear, Residual
    from bvae.report.figures._diagrams import first, inches, residual, two_ways, untrained_arms, walk, write
    from bvae.report.figures._page import MARGIN, WIDTH, page

    model, _ = untrained_arms(subject)
    layers = walk(model)
    kinds = {"convolution": Convolution, "residual block": Residual, "linear layer": Linear}
    found = {name: layer for name, kind in kinds.items() if (layer := first(layers, kind))}
    missing = [f"no {name}" for name in kinds if name not in found]
    tall = sum(2.15 if name == "residual block" else 1.8 for name in found) + 0.08 + 0.2 * bool(missing)
    caption = (
        "Blue: weights, the very same in both passes. Grey: units that they join; the grids are sketches, the shapes"
        " are this network's. Biases and normalisation, which each pass has for itself, are left out."
    )
    figure, place = page(subject, "Bidirectional layers", caption, tall)
    axes, top = inches(place(0, 0, WIDTH, tall), tall), 0.08
    for name, layer in found.items():
        count = sum(isinstance(weight, kinds[name]) for weight in model.encoder_weights.modules())
        title = f"Bidirectional {name}" + f", the first of {count} in this network" * (count > 1)
        if name == "residual block":
            residual(axes, top, layer, title, model.layout.activation)
            top += 2.15
            continue
        if name == "convolution":
            forward = "forward: y = conv2d(x, W), each unit reads its window"
            backward = "backward: x = conv_transpose2d(y, W), each unit writes its window"
        else:
            forward = "forward: y = x Wᵀ"
            backward = "backward: x = y W, the same matrix"
        two_ways(axes, top, layer, title, forward, backward)
        top += 1.8
    if missing:
        write(axes, MARGIN, top + 0.05, f"This network has {' and '.join(missing)}.", fontsize=8)
    return figure
