"""The features of the small classifier, trained from a third seed."""

from bvae.evaluation.extractors import extractor
from bvae.evaluation.extractors.classifier2 import Classifier2


@extractor
class Classifier3(Classifier2):
    """As Classifier2, from a third seed."""

    label = "classifier 3"
    features = "the features of the same classifier, trained from a third seed"
    note = "classifier 3: the same network, trained from a third seed"
    order = 22
    seed = 2
