"""The convolutional network."""

from bvae.architectures import architecture
from bvae.architectures._halving import doubled, halving, halvings, with_neck


def feature_maps(network, size):
    """Those of each halved resolution."""
    return doubled(network, halvings(size, "conv"))


@architecture(needs=("width", "neck"), takes=("max_width",), feature_maps=feature_maps)
def conv(layout, gain):
    """A convolution for each halving."""
    weights, inputs, size = [], layout.channels, layout.size
    for outputs in layout.feature_maps:
        weights.append(halving(inputs, outputs, gain))
        inputs, size = outputs, size // 2
    return with_neck(weights, layout, inputs, size, gain)
