"""The residual network."""

from bvae.architectures import architecture
from bvae.architectures._halving import doubled, halving, halvings, with_neck


def feature_maps(network, size):
    """Those of the stem, at full resolution, and of each halved one."""
    return doubled(network, 1 + halvings(size, "resnet"))


@architecture(needs=("width", "neck"), takes=("max_width", "blocks"), feature_maps=feature_maps)
def resnet(layout, gain):
    """A stem, and for each halving a convolution with residual blocks behind it."""
    from bvae.networks import Convolution, Residual

    stem, *maps = layout.feature_maps
    weights, inputs, size = [Convolution(layout.channels, stem, kernel=3, padding=1, gain=gain)], stem, layout.size
    for outputs in maps:
        weights.append(halving(inputs, outputs, gain))
        weights.extend(Residual(outputs) for _ in range(layout.blocks))
        inputs, size = outputs, size // 2
    return with_neck(weights, layout, inputs, size, gain)
