"""The importance-weighted bound on the likelihood."""

from bvae.evaluation.metrics import Metric, task


@task(
    title="Importance-weighted likelihood",
    version=4,
    order=30,
    uses=["importance"],
    metrics=[
        Metric(
            "nll",
            "-ln (1/K) Σ p(x, z_k) / q(z_k\\|x), the greatest K of the recipe; the sweep is in `nll_k<K>`",
            "nats an image",
            "lower",
            "Burda et al., arXiv 1509.00519",
            header="NLL",
            decimals=2,
        ),
    ],
)
def importance(trained):
    """On a fixed draw of test images, the same for every run of a data set.

    An upper bound in expectation that falls with K; its effective sample size is given beside it.
    """
    import hashlib

    from bvae.evaluation.measures import importance_sweep
    from bvae.evaluation.trained import finite

    sweep = trained.settings["importance"]
    images, index = trained.nll_images
    samples = max(sweep["samples"])
    found = importance_sweep(trained.log_weights, sweep["samples"])
    return finite(found | {"nll": found[f"nll_k{samples}"]}) | {
        "nll_samples": samples,
        "nll_images": len(images),
        "nll_images_sha256": hashlib.sha256(index.numpy().tobytes()).hexdigest(),  # of their int64 indices
    }
