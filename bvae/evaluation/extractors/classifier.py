"""The features of a small classifier, trained here on the data set's own training images.

Its distances rank models of one data set and can be compared with nothing outside this suite.
"""

from bvae.evaluation import protocol
from bvae.evaluation.extractors import Extractor, Network, extractor


@extractor
class Classifier(Extractor):
    """The small classifier of `_small_classifier.py`."""

    label = "classifier"
    header: str | None = "FD classifier"
    features = "the features of a small classifier trained here on the data set's own training images: **not FID**"
    note = (
        "FD classifier: features of a small network trained here on the data set's training images; comparable only"
        " within a data set"
    )
    source = "ours"
    version = 4
    order = 20
    seed = 0

    def why_empty(self, dataset, images):
        """It needs labels that differ, and enough test images for a covariance."""
        from bvae.evaluation.trained import why_unclassified

        if reason := why_unclassified(dataset):
            return f"{reason}: nothing to train the classifier on"
        needed = protocol.CLASSIFIER_MINIMUM_FEATURES * protocol.CLASSIFIER_IMAGES_PER_FEATURE
        return f"{images} test images; distances over the classifier need {needed}" if images < needed else None

    def make(self, dataset, images, device):
        """Trained on the data set."""
        from bvae.evaluation.extractors._small_classifier import train_classifier

        model, accuracy = train_classifier(dataset, features_for(images), device, seed=self.seed)
        facts = {"accuracy": accuracy, "channels": model.first.in_channels, "pooled": model.pool.output_size}
        return _network(model, facts)

    def load(self, tensors, facts, device):
        """From the weights that a reference keeps."""
        from bvae.evaluation.extractors._small_classifier import SmallClassifier

        outputs, features = tensors["outputs.weight"].shape
        model = SmallClassifier(facts["channels"], 4 * facts["pooled"], outputs, features)
        model.load_state_dict(tensors)
        return _network(model.to(device).eval(), facts)


def features_for(images: int) -> int:
    """How many features the classifier has for so many test images: a power of two, one for each ten images."""
    features = protocol.CLASSIFIER_FEATURES
    while features * protocol.CLASSIFIER_IMAGES_PER_FEATURE > images:
        features //= 2
    return features


def _network(model, facts):
    return Network(model.extract, 250, model.state_dict(), facts)
