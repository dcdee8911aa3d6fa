"""The ELBO and its terms, and how near a decoded image is to the encoded one."""

from bvae.evaluation import protocol
from bvae.evaluation.metrics import Metric, task

NATS = "nats an image"
KINGMA = "Kingma and Welling, arXiv 1312.6114"


@task(
    title="Reconstruction",
    version=4,
    order=20,
    metrics=[
        Metric(
            "reconstruction",
            f"-E_q[ln p(x\\|z)], {protocol.ELBO_SAMPLES} samples of z an image, mean over test images",
            NATS,
            "lower",
            KINGMA,
            header="Reconstruction",
            decimals=2,
        ),
        Metric("mse_per_pixel", "mean of (x - x̂)² over pixels and images", "", "lower", decimals=5),
        Metric("psnr", "10 log₁₀(1 / MSE) of each image, then the mean", "dB", "higher", header="PSNR", decimals=2),
        Metric(
            "ssim",
            f"structural similarity, Gaussian window of {protocol.SSIM_WINDOW} x {protocol.SSIM_WINDOW} with σ 1.5;"
            " none for smaller images",
            "≤ 1",
            "higher",
            "Wang et al., IEEE TIP 13(4), 2004",
            header="SSIM",
            decimals=4,
        ),
        Metric(
            "kl",
            "KL(N(m, s²) ‖ N(0, 1)) = ½ Σ (m² + s² - 1 - ln s²) over latents",
            NATS,
            source=KINGMA,
            decimals=2,
        ),
        Metric(
            "elbo",
            "ELBO(x) = E_q[ln p(x\\|z)] - KL(q(z\\|x) ‖ p(z)), the same samples: the BELBO, when encoder and decoder"
            " share their weights",
            NATS,
            "higher",
            KINGMA,
            header="ELBO",
            decimals=2,
        ),
        Metric(
            "backward_mse_per_pixel",
            "as `mse_per_pixel`, decoded by the *encoder's* weights run backward",
            "",
            "lower",
            table=None,
        ),
    ],
)
def reconstruction(trained):
    """The ELBO and its terms are of samples of z; errors are of images decoded from the posterior mean, without noise.

    Bernoulli: ln p(x|z) = Σ x ln μ + (1 - x) ln(1 - μ). Gaussian: Σ -(x - μ)² / 2σ² - ½ ln 2πσ², σ one scalar. **A
    Bernoulli of grey pixels is no likelihood**: its values compare arms with one another and nothing else (†).
    """
    import math

    import torch

    from bvae.data import to_batch
    from bvae.evaluation.measures import mse_per_pixel, psnr, ssim
    from bvae.evaluation.trained import BATCH, finite
    from bvae.objective import kl_divergence, sample_posterior
    from bvae.system.batching import in_batches
    from bvae.system.seeds import derive_seed

    model, run, dataset, device = trained.model, trained.run, trained.dataset, trained.device
    means, log_variances = trained.test_posteriors
    generator = torch.Generator().manual_seed(derive_seed(run.dataset, run.seed, "evaluation noise"))
    noise = torch.randn(len(means), protocol.ELBO_SAMPLES, run.latent_dim, generator=generator)
    windowed = dataset.size >= protocol.SSIM_WINDOW

    def measure(*parts):
        batch, mean, log_variance, draws = (part.to(device) for part in parts)
        images = to_batch(batch)
        log_likelihoods = [
            model.likelihood.log_likelihood(model.decode(sample_posterior(mean, log_variance, draw)), images)
            for draw in draws.unbind(1)
        ]
        shown = model.decode_mean(mean)  # from the posterior mean, no noise
        # the encoder run backward: what a BVAE is trained for, and a unidirectional network is not
        backward = model.likelihood.mean(model.decoder(model.encoder_weights, mean))
        found = {
            "log_likelihood": torch.stack(log_likelihoods, 1),  # (n, ELBO_SAMPLES)
            "kl": kl_divergence(mean, log_variance).double().sum(1),
            "mse_per_pixel": mse_per_pixel(images, shown),
            "psnr": psnr(images, shown),
            "backward_mse_per_pixel": mse_per_pixel(images, backward),
        } | ({"ssim": ssim(images, shown)} if windowed else {})
        return {name: column.double().cpu() for name, column in found.items()}

    with torch.inference_mode():
        parts = in_batches(measure, dataset.test_images, means, log_variances, noise, size=BATCH)
    table = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    draws = table.pop("log_likelihood")
    row = {name: float(column.mean()) for name, column in table.items()}
    elbos = draws.mean(1) - table["kl"]
    several = len(elbos) > 1
    row |= {
        "elbo": float(elbos.mean()),
        "elbo_noise_error": float((draws.var(1).mean() / draws.numel()).sqrt()),  # standard error from the draws of z
        # from the choice of images, that noise included
        "elbo_image_error": float(elbos.std() / len(elbos) ** 0.5) if several else math.nan,
        "reconstruction": -float(draws.mean()),
    }
    if model.likelihood.name == "gaussian":
        row["sigma"] = model.likelihood.sigma
    row = finite(row)
    if exact := int((table["mse_per_pixel"] == 0).sum()):
        row["empty"]["psnr"] = f"{exact} of {len(elbos)} images are decoded exactly, a ratio without bound"
    if not several:
        row["empty"]["elbo_image_error"] = "1 test image has no spread"
    if not windowed:
        row["ssim"] = None
        row["empty"]["ssim"] = f"images of {dataset.size} pixels; its window needs {protocol.SSIM_WINDOW}"
    return row | {"per_image": {"elbo": elbos, "mse_per_pixel": table["mse_per_pixel"]}}
