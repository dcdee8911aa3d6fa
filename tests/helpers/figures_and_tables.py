"""What a record of a run, and a publication, cannot give."""

OF_MODELS = {"backward", "interpolations", "latent_gains", "reconstructions", "samples", "tsne"}  # figures
OF_IMAGES = ["error_images", "error_seeds_and_images"]  # columns that need the values of each image
