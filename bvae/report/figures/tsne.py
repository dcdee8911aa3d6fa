"""t-SNE of posterior means of test images, one panel an arm, coloured by class (the paper's Figure 4)."""

from bvae.report.figures import figure


@figure(
    category="3 Classification",
    caption=(
        "Posterior means of test images as a t-SNE map, with the accuracy of the linear probe on all of them. "
        "One seed, n = 1."
    ),
    slow=True,
    models=True,
)
def tsne(subject):
    """t-SNE of posterior means of test images, one panel an arm, coloured by class (the paper's Figure 4)."""
    import math
    import textwrap

    import torch

    from bvae.arms import ARMS
    from bvae.evaluation import protocol
    from bvae.evaluation.trained import posterior_means
    from bvae.report.figures._page import MARGIN, WIDTH, bare, page
    from bvae.report.figures._pictures import CLASS_COLOURS, CPU, embed, why_no_map
    from bvae.system.files import read_json
    from bvae.system.seeds import derive_seed

    dataset, models, classes = subject.dataset, subject.models(), subject.dataset.classes
    generator = torch.Generator().manual_seed(derive_seed(dataset.name, "t-sne images"))
    chosen = torch.randperm(len(dataset.test_images), generator=generator)[: protocol.TSNE_IMAGES]
    named, labels = 0 < len(classes) <= len(CLASS_COLOURS), dataset.test_labels
    colours = [CLASS_COLOURS[label] for label in labels[chosen]] if named and labels is not None else "0.3"
    colouring = "coloured by class" if named else f"in one colour ({len(classes) or 'no'} classes)"
    caption = (
        f"Posterior means of {len(chosen):,} test images, {colouring}. Probe: a linear classifier on"
        f" posterior means, tested on all test images. Seed {subject.seed}, n = 1."
    )
    legend = 0.06 + 0.18 * math.ceil(len(classes) / 5) if named else 0.0  # five names a row
    wide, tall, above = (WIDTH - 3 * MARGIN) / 2, 2.5, 0.25  # of a panel, and of the title above it
    below = math.ceil(len(models) / 2) * (tall + above)
    figure, place = page(subject, "t-SNE of posterior means", caption, below + legend + 0.05)
    for index, (arm, model) in enumerate(models.items()):
        row, column = divmod(index, 2)
        axes = place(MARGIN + 0.05 + column * (wide + MARGIN), row * (tall + above) + above, wide - 0.05, tall)
        message = "diverged"
        if model is not None:
            means = posterior_means(model, dataset.test_images[chosen], CPU).numpy()
            message = why_no_map(means) or ""
        if not message:
            points = embed(means)
            look = {"s": min(12, 8000 / len(points)), "linewidths": 0, "alpha": 0.8, "rasterized": True}
            axes.scatter(points[:, 0], points[:, 1], c=colours, **look)
            axes.set_aspect("equal", adjustable="datalim")
        bare(axes, arm, message=message)
        accuracy = read_json(subject.paths[arm, subject.seed]).get("probe_accuracy")
        score = "" if accuracy is None else f": probe accuracy {100 * accuracy:.1f} %"
        axes.set_title(ARMS[arm].label + score, loc="left", fontsize=8, pad=4)
    if named:
        axes = place(0.0, below, WIDTH, legend)
        axes.set_axis_off()
        for index in sorted(range(len(classes)), key=lambda i: i % 5):  # a legend fills columns: so it reads along rows
            name = textwrap.shorten(classes[index], 18, placeholder="…")
            axes.scatter([], [], s=25, color=CLASS_COLOURS[index], label=name)
        axes.legend(loc="center", ncols=5, frameon=False, fontsize=7.5, handletextpad=0.2)
    return figure
