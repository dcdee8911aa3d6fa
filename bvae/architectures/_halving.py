"""Halving an image until it is small enough for linear layers."""

from bvae.errors import InputError

LARGEST_FINAL_MAP = 8  # pixels: a larger last feature map would need a giant linear layer


def halvings(size: int, architecture: str) -> int:
    """How often images of `size` pixels are halved: while the size is even and above 4.

    Raises InputError for a size that does not end between 3 and LARGEST_FINAL_MAP pixels.
    """
    count, final = 0, size
    while final % 2 == 0 and final > 4:
        count, final = count + 1, final // 2
    if count == 0 or final > LARGEST_FINAL_MAP:
        raise InputError(
            f"network: architecture '{architecture}' does not fit images of {size} pixels: halving while the size is"
            f" even ends at {final}, and it must end between 3 and {LARGEST_FINAL_MAP} after at least one halving (8,"
            f" 28, 32 and 64 fit). Resize the images, or use architecture 'mlp', which fits every size."
        )
    return count


def doubled(network: dict, count: int) -> tuple[int, ...]:
    """`width` feature maps, and twice as many each time, up to `max_width`."""
    return tuple(min(network["width"] * 2**index, network.get("max_width", 512)) for index in range(count))


def halving(inputs: int, outputs: int, gain: float):
    """A convolution that halves an image: with kernel 4, stride 2 and padding 1, doubling inverts halving exactly."""
    from bvae.networks import Convolution

    return Convolution(inputs, outputs, kernel=4, stride=2, padding=1, gain=gain)


def with_neck(weights: list, layout, inputs: int, size: int, gain: float):
    """The weights, with the 1x1 convolution that ends them, and the shape behind it."""
    from bvae.networks import Convolution

    return [*weights, Convolution(inputs, layout.neck, kernel=1, gain=gain)], (layout.neck, size, size)
