"""The strict BVAE."""

from typing import TYPE_CHECKING

from bvae.arms import arm

if TYPE_CHECKING:
    from torch import nn

    from bvae.networks import VAE, Layout


@arm(
    label="BVAE",
    description="a bidirectional variational autoencoder, strictly tied: encoder and decoder share their weights",
    colour="#0072B2",
    dash="-",
    marker="o",
)
def bvae(layout: "Layout", likelihood: "nn.Module") -> "VAE":
    """The strictly tied network: half the weights, encoding forward and decoding backward."""
    from bvae.networks import BVAE

    return BVAE(layout, likelihood)
