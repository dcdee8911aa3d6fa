"""BVAEs with gains whose decoder may differ from the encoder by a matrix of low rank: how much untying helps."""

from bvae.arms import arm

LOOKS = {  # of each rank: colour, dash, marker
    4: ("#08306B", (0, (3, 1.5)), "P"),
    16: ("#4292C6", (0, (4, 1, 1, 1, 1, 1)), "X"),
    64: ("#00868B", (0, (8, 2)), "*"),
}


def enter_rank(rank, colour, dash, marker):
    """Enter the arm of a rank."""

    def build(layout, likelihood):
        from bvae.networks import LowRankBVAE

        return LowRankBVAE(layout, likelihood, rank=rank)

    build.__name__ = f"bvae_rank{rank}"
    arm(
        label=f"BVAE + rank {rank}",
        description=(
            "a bidirectional variational autoencoder with one gain per latent, each linear layer of whose decoder has a"
            f" correction of rank {rank} of its own"
        ),
        colour=colour,
        dash=dash,
        marker=marker,
    )(build)


for found, looks in LOOKS.items():
    enter_rank(found, *looks)
