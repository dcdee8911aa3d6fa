"""Bidirectional variational autoencoders, benchmarked against ordinary ones."""

__version__ = "0.1.0"

# Raise by one when a change to the code alters the numbers that training (or evaluation)
# produces: every run (or every metrics file) is then computed anew.
TRAINING_VERSION = 1
EVALUATION_VERSION = 4

ARMS = ("bvae", "bvae_gain", "vae", "vae_narrow")  # built by bvae.arms
FIGURES = (  # drawn by bvae.figures
    "architecture",
    "belbo_training",
    "blocks",
    "reconstructions",
    "backward",
    "samples",
    "interpolations",
    "tsne",
    "training_curves",
    "quality",
    "rate_distortion",
    "latent_variances",
)
