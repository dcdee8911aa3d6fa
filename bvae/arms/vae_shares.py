"""VAEs of which a BVAE has a share of the parameters."""

from bvae.arms import SIZE_TOLERANCE, arm

LOOKS = {  # of each share in per cent: colour, dash, marker
    90: ("#A6761D", (0, (3, 1)), "v"),
    80: ("#CC79A7", (0, (4, 1, 1, 1)), "<"),
    75: ("#882255", (0, (2, 2)), ">"),
    70: ("#7F7F00", (0, (7, 2, 2, 2)), "p"),
    60: ("#661100", (0, (5, 1, 1, 1, 1, 1)), "h"),
}


def of_a_share(layout, percent):
    """The layout, narrowed until the planned BVAE has so many per cent of a VAE's parameters.

    Raises InputError where no narrowing comes within SIZE_TOLERANCE of that count, or the matched VAE is smaller.
    """
    from bvae.arms._narrowing import count_parameters, narrow
    from bvae.errors import InputError
    from bvae.networks import BVAE, VAE

    target = count_parameters(BVAE, layout) * 100 / percent
    found = narrow(layout, round(target))
    count = count_parameters(VAE, found)
    if abs(count - target) > SIZE_TOLERANCE * target:
        raise InputError(
            f"vae_s{percent}: the nearest VAE has {count:,} parameters, expected {target:,.0f}, of which the BVAE has"
            f" {percent} %, to {100 * SIZE_TOLERANCE:g} %. Choose a larger share or a wider network."
        )
    if found == layout:
        raise InputError(
            f"vae_s{percent}: the VAE of which the BVAE has {percent} % of the parameters is the matched VAE itself,"
            " expected a narrower one. Leave this arm out, or choose a larger share."
        )
    return found


def enter_share(percent, colour, dash, marker):
    """Enter the arm of a share."""

    def build(layout, likelihood):
        from bvae.networks import VAE

        return VAE(layout, likelihood)

    build.__name__ = f"vae_s{percent}"
    arm(
        label=f"VAE s={percent / 100:g}",
        description=(
            "an ordinary variational autoencoder, narrowed until the bidirectional one has"
            f" {percent} % of its parameters"
        ),
        colour=colour,
        dash=dash,
        marker=marker,
        layout=lambda layout: of_a_share(layout, percent),
        ordinary=True,
        may_refuse=True,
    )(build)


for share, looks in LOOKS.items():
    enter_share(share, *looks)
