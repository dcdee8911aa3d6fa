"""How far what a model decodes is from the real images, over the features of each extractor."""

from dataclasses import replace
from itertools import product

from bvae.evaluation import protocol
from bvae.evaluation.extractors import EXTRACTORS
from bvae.evaluation.metrics import Metric, task

DECODED = ("samples", "mixture_samples", "reconstructions", "interpolations", "slerp_interpolations")
KINDS = (  # of what `references.compare` returns, for any decoded images and any features
    Metric(
        "fd",
        "Fréchet distance of Gaussians, \\|m - m'\\|² + tr(C + C' - 2 (C C')^½)",
        better="lower",
        decimals=2,
    ),
    Metric(
        "kid",
        f"unbiased squared MMD, kernel (x·y / d + 1)³, mean over {protocol.KID_SUBSETS} subsets of"
        f" {protocol.KID_SUBSET_SIZE:,}",
        better="lower",
        source="Bińkowski et al., arXiv 1801.01401",
        header="KID",
    ),
    Metric(
        "precision",
        f"share of generated images within the {protocol.PRECISION_NEIGHBOURS}-nearest-neighbour balls of the real"
        " ones",
        "share",
        "higher",
        "Kynkäänniemi et al., arXiv 1904.06991",
        header="Precision",
        decimals=3,
    ),
    Metric(
        "recall",
        "share of real images within those of the generated ones",
        "share",
        "higher",
        "Kynkäänniemi et al., arXiv 1904.06991",
        header="Recall",
        decimals=3,
    ),
)
COLUMNS = {  # of Fréchet distances in Table 2
    "samples": "Samples",
    "mixture_samples": "Mixture samples",
    "interpolations": "Midpoints",
    "slerp_interpolations": "Slerp midpoints",
    "reconstructions": "Reconstructions",
}


def of_extractors():
    """The metrics of a run: each kind, of what is decoded, over each extractor's features."""
    for kind, extractor, what in product(KINDS, EXTRACTORS.values(), DECODED):
        if kind.name not in extractor.kinds:
            continue
        name, distance = extractor.metric(kind.name), kind.name == "fd"
        yield replace(
            kind,
            name=f"{name}_{what}",
            meaning=f"{kind.meaning}, over {extractor.features}",
            source=kind.source or extractor.source,
            header=extractor.header if distance and what == "samples" else None,
            table=1 if distance else None,
            documented=f"{name}_<what>",
            optional=True,
        )


def of_table2():
    """The columns of Table 2, which has a line for the features of each extractor."""
    for kind in KINDS:
        distance = kind.name == "fd"
        for what in COLUMNS if distance else DECODED:
            header = COLUMNS[what] if distance else kind.header if what == "samples" else None
            yield replace(kind, name=f"{kind.name}_{what}", header=header, table=2, any_features=True)


@task(
    title="Generation and interpolation",
    version=4,
    order=50,
    uses=["references"],
    metrics=[*of_extractors(), *of_table2()],
)
def distances(trained):
    """Over features of as many generated images as there are test images, at most 10,000, against the test images.

    `<what>` is one of `samples` (decoded from z ~ N(0, I)), `mixture_samples` (from 10 Gaussians fitted to training
    latents), `reconstructions` (of test images, from posterior means), `interpolations` (midpoints of straight lines
    between the posterior means of two test images) and `slerp_interpolations` (midpoints of arcs).

    A Fréchet distance depends on n, on the features and on the data set: compare only within a table. Each table states
    the floor, the distance of as many training images to the test images.
    """
    from bvae.errors import InputError
    from bvae.evaluation.draws import interpolation_pairs, lerp, mixture_samples, prior_samples, slerp
    from bvae.evaluation.references import compare_each, extract, reference_test_images
    from bvae.evaluation.trained import decode_images, posterior_means

    model, run, dataset, device = trained.model, trained.run, trained.dataset, trained.device
    means, row, images = trained.test_means, {"empty": {}}, {}
    if trained.compares:
        shown = reference_test_images(dataset)
        first, second = interpolation_pairs(run.dataset, len(means), len(shown))
        latents = {
            "samples": prior_samples(run.dataset, run.seed, len(shown), run.latent_dim),
            "mixture_samples": mixture_samples(run, trained.train_means, len(shown)),
            "reconstructions": means if len(shown) == len(means) else posterior_means(model, shown, device),
            "interpolations": lerp(means[first], means[second], 0.5),
            "slerp_interpolations": slerp(means[first], means[second], 0.5),
        }
        images = {what: decode_images(model, z, device) for what, z in latents.items() if z is not None}
    for reference in trained.references:
        extractor = EXTRACTORS[reference.extractor]
        if reference.dataset_sha256 != dataset.sha256:
            raise InputError(
                f"reference of {extractor.name}: made from other data than {dataset.name}; delete it, run again"
            )
        row[f"{extractor.metric('fd')}_images"] = reference.images
        row |= {f"{extractor.metric(name)}_floor": value for name, value in reference.floor.items()}
        if reference.features is None:
            name = f"{extractor.metric('fd')}_samples"
            row[name], row["empty"][name] = None, reference.why_empty
            continue
        network = reference.network(device)
        features = [extract(network, decoded, device) for decoded in images.values()]
        compared = compare_each(features, reference.features, extractor.kinds, device)
        for what, found in zip(images, compared, strict=True):
            row |= {f"{extractor.metric(name)}_{what}": value for name, value in found.items()}
        if "mixture_samples" not in images:
            name = f"{extractor.metric('fd')}_mixture_samples"
            row[name], row["empty"][name] = None, "no mixture of Gaussians can be fitted to its training latents"
        if "kid" in extractor.kinds and "kid" not in found:
            name = f"{extractor.metric('kid')}_samples"
            row["empty"][name] = f"{reference.images} test images; its subsets need {protocol.KID_SUBSET_SIZE:,}"
    return row
