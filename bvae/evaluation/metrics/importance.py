"""The importance-weighted bound on the likelihood."""

from bvae.evaluation.metrics import Metric, task

IMAGES = 20  # encoded together, with BATCH / IMAGES decodings each


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

    An upper bound in expectation that falls with K; its effective sample size stands beside it.
    """
    import hashlib

    import torch

    from bvae.data import to_batch
    from bvae.evaluation.draws import fixed_draw
    from bvae.evaluation.measures import importance_sweep
    from bvae.evaluation.trained import BATCH, finite
    from bvae.objective import log_importance_weights
    from bvae.system.batching import in_batches
    from bvae.system.seeds import derive_seed

    run, sweep = trained.run, trained.settings["importance"]
    images, index = fixed_draw(trained.dataset, "nll images", sweep["images"])
    generator = torch.Generator().manual_seed(derive_seed(run.dataset, run.seed, "importance noise"))
    samples = max(sweep["samples"])
    columns = []
    with torch.inference_mode():
        for batch in images.split(IMAGES):
            shown, rows = to_batch(batch.to(trained.device)), []

            def weigh(noise, shown=shown):
                return log_importance_weights(trained.model, shown, noise.to(trained.device))[0].double().cpu()

            for count in torch.ones(samples).split(BATCH // IMAGES):
                noise = torch.randn(len(count), len(batch), run.latent_dim, generator=generator)
                rows += in_batches(weigh, noise, size=len(noise))
            columns.append(torch.cat(rows))
    found = importance_sweep(torch.cat(columns, 1), sweep["samples"])
    return finite(found | {"nll": found[f"nll_k{samples}"]}) | {
        "nll_samples": samples,
        "nll_images": len(images),
        "nll_images_sha256": hashlib.sha256(index.numpy().tobytes()).hexdigest(),  # of their int64 indices
    }
