"""What the latents carry, and how many are in use."""

from bvae.evaluation import protocol
from bvae.evaluation.metrics import Metric, task


@task(
    title="Latents",
    version=4,
    order=40,
    metrics=[
        Metric(
            "kl_bits_per_pixel",
            "`kl` / (ln 2 · c h w): the rate of a code for z",
            "bits a pixel",
            source="Alemi et al., arXiv 1711.00464",
            decimals=4,
        ),
        Metric(
            "active_units",
            f"latents whose posterior mean has a variance above {protocol.ACTIVE_UNIT_VARIANCE} over the test images",
            "count",
            source="Burda et al., arXiv 1509.00519, section 5.2",
            decimals=1,
        ),
    ],
)
def latents(trained):
    """Of the posteriors of all test images; `kl_per_latent` and `variance_per_latent` are lists."""
    import math

    import torch

    from bvae.evaluation.measures import active_units
    from bvae.evaluation.trained import BATCH, finite
    from bvae.objective import kl_divergence
    from bvae.system.batching import in_batches

    dataset, means = trained.dataset, trained.test_means

    def divergence(*posteriors):
        return kl_divergence(*(part.to(trained.device) for part in posteriors)).double()

    parts = [(kl.sum(1).cpu(), kl.sum(0).cpu()) for kl in in_batches(divergence, *trained.test_posteriors, size=BATCH)]
    of_images, of_latents = (list(column) for column in zip(*parts, strict=True))
    kl = float(torch.cat(of_images).mean())
    row = finite({"kl_bits_per_pixel": kl / math.log(2) / (dataset.channels * dataset.size**2)})
    row |= {"kl_per_latent": None, "variance_per_latent": None, "active_units": None}
    if math.isfinite(kl):
        row["kl_per_latent"] = (sum(of_latents) / len(means)).tolist()
    if len(means) > 1:
        row |= {"variance_per_latent": means.double().var(0).tolist(), "active_units": active_units(means)}
    else:
        row["empty"]["active_units"] = "1 test image: its means have no variance"
    return row
