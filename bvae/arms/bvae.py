"""The strict BVAE."""

from bvae.arms import arm


@arm(
    label="BVAE",
    description="a bidirectional variational autoencoder, strictly tied: encoder and decoder share their weights",
    colour="#0072B2",
    dash="-",
    marker="o",
    aside=-16,
)
def bvae(layout, likelihood):
    """The strictly tied network: half the weights, encoding forward and decoding backward."""
    from bvae.networks import BVAE

    return BVAE(layout, likelihood)
