"""The BVAE with gains."""

from bvae.arms import arm


@arm(
    label="BVAE + gain",
    description="a bidirectional variational autoencoder with one gain per latent on the posterior mean",
    colour="#56B4E9",
    dash=(0, (5, 1.5)),
    marker="s",
)
def bvae_gain(layout, likelihood):
    """The tied network with one gain per latent on the posterior mean: `latent_dim` parameters more.

    Without it a tied linear model cannot reach the PPCA optimum, because the best encoder is not Wᵀ but a scaled Wᵀ.
    """
    from bvae.networks import BVAE

    return BVAE(layout, likelihood, latent_gain=True)
