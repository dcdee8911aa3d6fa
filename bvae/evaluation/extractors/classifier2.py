"""The features of the small classifier, trained from a second seed."""

from bvae.evaluation.extractors import extractor
from bvae.evaluation.extractors.classifier import Classifier


@extractor
class Classifier2(Classifier):
    """As Classifier, from other initial weights and another order: a verdict must not depend on one training."""

    label = "classifier 2"
    header = None
    features = "the features of the same classifier, trained from a second seed"
    note = "classifier 2: the same network, trained from a second seed"
    order = 21
    kinds = ("fd",)
    seed = 1
