"""The ELBO on the images of the importance-weighted likelihood, so that the two can be compared."""

from bvae.evaluation.metrics import Metric, task


@task(
    title="ELBO and likelihood of the same images",
    version=1,
    order=31,
    protocol=2,
    uses=["importance"],
    metrics=[
        Metric(
            "elbo_nll_images",
            "the ELBO on the images of the NLL, (1/K) Σ ln p(x, z_k) / q(z_k\\|x), by the samples of the NLL",
            "nats an image",
            "higher",
            "Kingma and Welling, arXiv 1312.6114",
            header="ELBO (same images)",
            decimals=2,
        ),
        Metric(
            "nll_image_error",
            "standard error of `nll` over its images",
            "nats an image",
            decimals=2,
        ),
    ],
)
def same_images(trained):
    """The ELBO in Table 1 is of all test images, the NLL of a draw of them. On the same samples of z it is never above
    -NLL (Jensen).

    The values of each image are in `per_image-<key>.safetensors`.
    """
    import math

    from bvae.evaluation.trained import finite

    log_weights = trained.log_weights  # (K, n)
    nll = math.log(len(log_weights)) - log_weights.logsumexp(0)
    elbo = log_weights.mean(0)
    several = len(nll) > 1
    error = float(nll.std() / len(nll) ** 0.5) if several else math.nan
    row = finite({"elbo_nll_images": float(elbo.mean()), "nll_image_error": error})
    if not several:
        row["empty"]["nll_image_error"] = "1 test image has no spread"
    return row | {"per_image": {"nll": nll, "elbo_of_nll_images": elbo, "nll_images": trained.nll_images[1]}}
