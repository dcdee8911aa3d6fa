"""Inception's features: what FID means, and nothing else."""

import shutil
from pathlib import Path
from types import MappingProxyType

from bvae.errors import InputError
from bvae.evaluation import protocol
from bvae.evaluation.extractors import Extractor, Network, Weights, extractor
from bvae.system.files import sha256_of_file, whole_file


def check_weights(weights: Path) -> None:
    """Refuse a file that is missing or is not torch-fidelity's Inception weights, before anything opens it."""
    if not weights.exists():
        raise InputError(
            f"{weights}: no such file. `fid` needs these weights of torch-fidelity: place the file there, or set"
            " BVAE_MIRROR to a folder or address that holds it; or take `features: [classifier]` in the study."
        )
    found = sha256_of_file(weights)
    if not found.startswith(protocol.INCEPTION_SHA256):
        raise InputError(
            f"{weights}: SHA-256 {found} does not begin with {protocol.INCEPTION_SHA256}: not the Inception weights of"
            " torch-fidelity, or damaged. Delete the file and fetch it again."
        )


def fetch_weights(output: str | Path) -> None:
    """Fetch torch-fidelity's weights, check their SHA-256 and write them to `output`, whole or not at all."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    from bvae.data.published_files import PublishedFile, find

    name = URL_INCEPTION_V3.rsplit("/", 1)[1]
    file = PublishedFile((name, f"weights/{name}"), home=name, urls=(URL_INCEPTION_V3,))
    [path] = find("Inception weights", [file])
    check_weights(path)
    with whole_file(output) as temporary:
        shutil.copyfile(path, temporary)


@extractor
class Inception(Extractor):
    """Inception v3 as in the original FID code, by torch-fidelity."""

    label = "Inception (FID)"
    header = "FID"
    features = "2,048 features of torch-fidelity's Inception"
    note = "FID: Inception features"
    source = "Heusel et al., arXiv 1706.08500"
    version = 4
    order = 10
    called = MappingProxyType({"fd": "fid", "kid": "kid", "kid_spread": "kid_spread"})
    weights = Weights(protocol.INCEPTION_WEIGHTS, fetch_weights)

    def why_empty(self, dataset, images):
        """It sees images of 299 pixels, and 2,048 features need as many images."""
        if dataset.size < protocol.FID_MINIMUM_SIZE:
            return f"images of {dataset.size} pixels; fid needs {protocol.FID_MINIMUM_SIZE}"
        if images < protocol.FID_MINIMUM_IMAGES:
            return f"{images} test images; fid needs {protocol.FID_MINIMUM_IMAGES}"
        return None

    def make(self, dataset, images, device):
        """The same for every data set."""
        return self.load({}, {}, device)

    def load(self, tensors, facts, device):
        """From a weights file whose SHA-256 is checked; grey images are shown as three equal channels."""
        check_weights(Path(self.weights.path))
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        features = [str(protocol.INCEPTION_FEATURES)]
        network = FeatureExtractorInceptionV3("inception", features, feature_extractor_weights_path=self.weights.path)
        network = network.to(device).eval()
        return Network(lambda images: network(images.expand(-1, 3, -1, -1).contiguous())[0], 50, {}, {})
