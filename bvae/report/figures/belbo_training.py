"""One step of bidirectional backpropagation: values and gradients through both passes of the same weights."""

from bvae.report.figures import figure


@figure(
    category="6 Networks and training",
    network=True,
    caption=(
        "One step of bidirectional backpropagation: values and gradients through both passes of the same weights."
    ),
)
def belbo_training(subject):
    """One step of bidirectional backpropagation: values and gradients through both passes of the same weights."""
    from bvae.report.figures._diagrams import (
        GAP,
        RECONSTRUCTION,
        STEPS,
        arrow,
        bound_note,
        box,
        by,
        cells,
        inches,
        untrained_arms,
        walk,
        write,
    )
    from bvae.report.figures._page import MARGIN, WIDTH, page

    model, _ = untrained_arms(subject)
    layers, tall = walk(model), 4.2
    image, latents, objective = by(layers[0].before), by(layers[-1].after), subject.settings["objective"]
    caption = (
        "Solid: values; dashed: gradients, but for those through the log-variance head (ln s²). Dark blue: weights that"
        f" both passes share. Likelihood: {model.likelihood.name}.{bound_note(model)}"
    )
    if objective != {"name": "elbo", "beta": 1}:
        caption += f" This recipe puts the loss of {objective['name']} (beta = {objective['beta']}) in place of -BELBO."
    figure, place = page(subject, "Bidirectional backpropagation", caption, tall)
    axes = inches(place(0, 0, WIDTH, tall), tall)
    left, right, top, bottom = 1.3, 4.6, 0.52, 2.87  # of the weights
    forward, encoding, decoding, backward = 0.72, 0.94, 2.45, 2.67  # lanes of values, gradients, gradients, values
    pitch = min((right - left + GAP) / len(layers), 0.7)
    left += (right - left + GAP - pitch * len(layers)) / 2
    for index, layer in enumerate(layers):
        cells(axes, (left + index * pitch, top), (pitch - GAP, bottom - top), layer, tied=True, rotation=90)
    write(axes, left, top - 0.12, "① forward pass: encode")
    write(axes, left, bottom + 0.12, "③ backward pass through the same weights: decode")

    box(axes, 0.1, 0.6, 0.85, 0.46, f"image $x$\n{image}")
    box(axes, 0.1, 1.48, 0.85, 0.42, "④ 1st term\n$\\ln\\,p_b(x|z)$")
    box(axes, 0.1, 2.33, 0.85, 0.46, f"image {RECONSTRUCTION}\n{image}")
    box(axes, 4.5, 0.06, 0.6, 0.32, f"ln s² head\n{by(layers[-1].tensors[0])}", head=True)
    box(axes, 5.22, 0.06, 0.8, 1.0, "")
    for y, text in ((0.22, f"ln s²  {latents}"), (0.47, "$q_f(z|x)$"), (forward, f"mean  {latents}")):
        write(axes, 5.62, y, text, ha="center")
    box(axes, 6.17, 0.35, 0.75, 0.42, "④ 2nd term\n$KL(q_f\\,||\\,p)$")
    box(axes, 5.22, 2.33, 0.8, 0.46, "② $z$ = mean\n+ $s$ · noise")
    box(axes, 6.17, 2.33, 0.75, 0.46, f"noise  {latents}\nfrom N(0, I)")

    fork = left + (len(layers) - 1) * pitch - GAP / 2  # before the mean head
    arrow(axes, (0.95, forward), (5.22, forward))
    arrow(axes, (fork, forward), (fork, 0.22), (4.5, 0.22))
    arrow(axes, (5.1, 0.22), (5.22, 0.22))
    arrow(axes, (5.42, 1.06), (5.42, 2.33))
    arrow(axes, (6.17, 2.56), (6.02, 2.56))
    arrow(axes, (5.22, backward), (0.95, backward))
    arrow(axes, (6.02, 0.46), (6.17, 0.46))
    arrow(axes, (0.35, 1.06), (0.35, 1.48))
    arrow(axes, (0.35, 2.33), (0.35, 1.9))

    arrow(axes, (0.7, 1.9), (0.7, 2.33), gradient=True)
    arrow(axes, (0.95, decoding), (5.22, decoding), gradient=True)
    arrow(axes, (5.82, 2.33), (5.82, 1.06), gradient=True)
    arrow(axes, (6.17, 0.66), (6.02, 0.66), gradient=True)
    arrow(axes, (5.22, encoding), (left - 0.15, encoding), gradient=True)
    write(axes, 5.95, 1.7, "⑤ gradients\nof both terms", linespacing=1.25)
    for index, step in enumerate(STEPS):
        write(axes, MARGIN, bottom + 0.38 + 0.18 * index, step, fontsize=7)
    return figure
