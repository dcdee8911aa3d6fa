"""Reconstruction, classification, interpolation and generation against the number of trained parameters."""

from bvae.report.figures import figure


@figure(
    category="1 Claims",
    caption=(
        "The four tasks against the number of parameters: mean over seeds with its 95 % t-interval; each "
        "arm's n is in the figure."
    ),
)
def quality(subject):
    """Reconstruction, classification, interpolation and generation against the number of trained parameters."""
    from bvae.arms import ARMS
    from bvae.report.figures._page import page
    from bvae.report.figures._plots import LEGEND, draw_legend, draw_panel, measured, quality_panels, seeds_of

    rows, labels = measured(subject)
    every = [row for found in rows.values() for row in found]
    distance, name, features = "fd_classifier", "FD classifier", "a small classifier"
    if any(row.get("fid_samples") is not None for row in every):
        distance, name, features = "fid", "FID", "Inception"
    accuracy = "accuracy" if subject.dataset.test_attributes is None else "balanced accuracy"
    panels = quality_panels(distance, name, accuracy)
    caption = (
        f"On {len(subject.dataset.test_images):,} test images. Small points: seeds ({seeds_of(subject)}); large points,"
        " 5 pt to their right: their mean, with its 95 % t-interval where n > 1."
    )
    if aside := [f"{ARMS[arm].label} by {ARMS[arm].aside:+d} pt" for arm in subject.seeds if ARMS[arm].aside]:
        caption += f" To be told apart, arms are moved beside their number of parameters: {', '.join(aside)}."
    if images := {row[f"{distance}_images"] for row in every if row.get(f"{distance}_samples") is not None}:
        caption += (
            f" {name}: Fréchet distance, over features of {features}, of {max(images):,} decoded midpoints of two"
            " posterior means, or decoded draws of the prior, from as many test images."
        )
    figure, place = page(subject, "Quality against parameters", caption, 4.9 + LEGEND)
    for index, panel in enumerate(panels):
        draw_panel(place(0.68 + 3.5 * (index % 2), 0.22 + 2.45 * (index // 2), 2.72, 1.78), panel, rows)
    for arm, found in rows.items():
        labels[arm] += f": {found[0]['parameters']:,} parameters"
    draw_legend(place, 4.9, labels)
    return figure
