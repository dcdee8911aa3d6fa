"""The matched VAE."""

from bvae.arms import arm


@arm(
    label="VAE",
    description="an ordinary variational autoencoder, matched to the bidirectional one layer by layer",
    colour="#D55E00",
    dash=(0, (6, 1.5, 1, 1.5)),
    marker="^",
    ordinary=True,
)
def vae(layout, likelihood):
    """The matched VAE: the same layers, untied."""
    from bvae.networks import VAE

    return VAE(layout, likelihood)
