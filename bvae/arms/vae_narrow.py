"""The narrow VAE."""

from bvae.arms import arm


def of_the_bvaes_size(layout):
    """The layout, narrowed until a VAE of it is as near to the planned BVAE's parameter count as it comes.

    With few layers that may not be near. Claims at equal size are then left open.
    """
    from bvae.arms._narrowing import count_parameters, narrow
    from bvae.networks import BVAE

    return narrow(layout, count_parameters(BVAE, layout))


@arm(
    label="VAE narrow",
    description="an ordinary variational autoencoder, narrowed to the parameter count of the bidirectional one",
    colour="#E69F00",
    dash=(0, (1, 1.2)),
    marker="D",
    aside=16,
    layout=of_the_bvaes_size,
    as_large_as=("bvae", "bvae_gain"),
    ordinary=True,
)
def vae_narrow(layout, likelihood):
    """The VAE narrowed to the BVAE's parameter count: is tying the better use of a parameter budget?"""
    from bvae.networks import VAE

    return VAE(layout, likelihood)
