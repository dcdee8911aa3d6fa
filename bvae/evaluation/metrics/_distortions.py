"""What known changes of the real test images cost in Fréchet distance to these images, over the features of each
extractor: what a distance of a model can be compared with. `bvae/evaluation/distortions.py`.
"""

from bvae.evaluation import protocol
from bvae.evaluation.metrics import Metric

VERSION = 1  # of the numbers: raise it by one when a change alters them
CHANGES = (
    Metric(
        "training_images",
        "as many training images: the floor that each table states; no generator can be expected to do better",
        header="as many training images",
    ),
    Metric(
        "halves_at_random",
        "one half of the test images against the other, by a fixed draw. Half as many images have a higher floor",
        header="two halves, at random",
    ),
    Metric(
        "halves_in_order",
        "the first half of the test images in their file against the second half",
        header="two halves, in their order",
    ),
    Metric(
        "ends_of_pairs",
        "the first image of each pair of the interpolations, in place of its midpoint: a decoder that returns an end"
        " of the way whatever it is asked for. They are test images, so the distance may be below the floor",
        header="ends of the pairs, as midpoints",
    ),
    *(
        Metric(f"blur_{sigma}", f"Gaussian blur, σ = {sigma} pixels", header=f"blur, σ = {sigma} pixels")
        for sigma in protocol.DISTORTION_BLURS
    ),
    *(
        Metric(
            f"noise_{sigma}",
            f"Gaussian noise, σ = {sigma} of the range of pixels, clipped to it",
            header=f"noise, σ = {sigma}",
        )
        for sigma in protocol.DISTORTION_NOISES
    ),
    Metric(
        f"contrast_{protocol.DISTORTION_CONTRAST}",
        f"pixels times {protocol.DISTORTION_CONTRAST}, so that black stays black",
        header=f"contrast times {protocol.DISTORTION_CONTRAST}",
    ),
    Metric(
        "class_dropped",
        "the test images without those of one class, mean over the classes; none for attributes",
        header="one class dropped",
    ),
)
