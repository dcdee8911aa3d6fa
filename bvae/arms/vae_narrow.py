"""The narrow VAE."""

from typing import TYPE_CHECKING

from bvae.arms import arm

if TYPE_CHECKING:
    from torch import nn

    from bvae.networks import VAE, Layout


@arm(
    label="VAE narrow",
    description="an ordinary variational autoencoder, narrowed to the parameter count of the bidirectional one",
    colour="#E69F00",
    dash=(0, (1, 1.2)),
    marker="D",
)
def vae_narrow(layout: "Layout", likelihood: "nn.Module") -> "VAE":
    """The VAE narrowed to the BVAE's parameter count: is tying the better use of a parameter budget?"""
    from bvae.arms._narrowing import count_parameters, narrow
    from bvae.networks import BVAE, VAE

    return VAE(narrow(layout, count_parameters(BVAE, layout)), likelihood)
