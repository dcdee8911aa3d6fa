"""How far images along the way between two test images are from real ones, not only the image in the middle."""

from dataclasses import replace

from bvae.evaluation.extractors import EXTRACTORS
from bvae.evaluation.metrics import Metric, task
from bvae.evaluation.metrics.distances import KINDS

PATHS = {"path_interpolations": "Along path", "slerp_path_interpolations": "Along arc"}  # columns of Table 2
[DISTANCE] = [kind for kind in KINDS if kind.name == "fd"]


def _metrics():
    for extractor in EXTRACTORS.values():
        name = extractor.metric("fd")
        for what in PATHS:
            yield replace(
                DISTANCE,
                name=f"{name}_{what}",
                meaning=f"as `{name}_<what>` above, of one image a pair, at a random share of the way",
                source=extractor.source,
                documented=f"{name}_<path>",
                optional=True,
            )
    for what, header in PATHS.items():
        yield Metric(f"fd_{what}", "", better="lower", decimals=2, header=header, table=2, any_features=True)


@task(title="Along the path", version=1, order=51, protocol=2, uses=["references"], metrics=[*_metrics()])
def paths(trained):
    """Fréchet distances of images along the way between two test images, for the same pairs as the midpoints.

    Of each pair one image is decoded, at a share of the way that is drawn evenly from 0 to 1, the same for every run of
    a data set. `<path>` is `path_interpolations` (straight lines between posterior means) or
    `slerp_path_interpolations` (arcs). A midpoint is the place of a straight line that is farthest from the ends; these
    distances are of the whole way.
    """
    from bvae.evaluation.draws import interpolation_pairs, lerp, path_shares, slerp
    from bvae.evaluation.references import compare_each, extract, reference_test_images
    from bvae.evaluation.trained import decode_images

    model, dataset, device, means = trained.model, trained.dataset, trained.device, trained.test_means
    row, images = {"empty": {}}, []
    if trained.compares:
        pairs = len(reference_test_images(dataset))
        first, second = (means[index] for index in interpolation_pairs(dataset.name, len(means), pairs))
        shares = path_shares(dataset.name, pairs)
        images = [decode_images(model, way(first, second, shares), device) for way in (lerp, slerp)]
    for reference in trained.references:
        names = [f"{EXTRACTORS[reference.extractor].metric('fd')}_{what}" for what in PATHS]
        if reference.features is None:
            row[names[0]], row["empty"][names[0]] = None, reference.why_empty
            continue
        network = reference.network(device)
        features = [extract(network, decoded, device) for decoded in images]
        found = compare_each(features, reference.features, ("fd",), device)
        row |= {name: compared["fd"] for name, compared in zip(names, found, strict=True)}
    return row
