"""The bidirectional variational autoencoder (BVAE), and the ordinary VAE that it is compared with.

A network is a stack of weights. The weights of a layer are an object of their own, a linear map W that runs both ways:

    layer          forward pass, encoding       backward pass, decoding
    linear         x Wᵀ                         z W
    convolution    conv2d(x, W)                 conv_transpose2d(y, W), the very same masks
    residual       y = a(x + F(x))              x = a(y + Fᵀ(y)), the skip in both directions

    VAE  = encoder over weights A, decoder over weights B
    BVAE = encoder over weights A, decoder over weights A

That is the whole difference: the one line of `BVAE.weights_to_decode`. What belongs to one direction is built per
direction and never shared: biases, normalisation (with its own statistics), and the log-variance head, which only the
forward pass has.

Source: Kosko and Adigun, "Bidirectional Variational Autoencoders", arXiv 2505.16074. Its widths and depths are not
available to us: the ones here are ours.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bvae.architectures import ARCHITECTURES
from bvae.errors import InputError, check_name

ACTIVATIONS = {"silu": nn.SiLU, "relu": nn.ReLU, "identity": nn.Identity}
NORMALIZATIONS = ("none", "batch", "gain")
OPTIONAL = ("activation", "normalization", "log_variance_bound")  # a recipe may leave them out
OF_EVERY_NETWORK = ("architecture", "hidden", *OPTIONAL)  # what a recipe may say of one


@dataclass(frozen=True)
class Layout:
    """Every size that decides the parameters of a network. `plan` makes one from a recipe."""

    architecture: str  # of bvae/architectures/
    channels: int  # of the image
    size: int  # of the image, in pixels
    latent_dim: int
    feature_maps: tuple[int, ...] = ()  # channels at each resolution; for resnet the first is the stem's
    neck: int = 0  # channels of the 1x1 convolution that ends the convolutions; 0 in an mlp
    hidden: tuple[int, ...] = ()  # linear layers between the images or maps and the two heads
    blocks: int = 1  # residual blocks at each halved resolution
    activation: str = "silu"
    normalization: str = "none"  # of NORMALIZATIONS
    log_variance_bound: float | None = None  # of `soft_bound`; a run without a bound does not record this field

    def __post_init__(self) -> None:
        check_name("architecture", self.architecture, ARCHITECTURES)
        check_name("activation", self.activation, ACTIVATIONS)
        check_name("normalization", self.normalization, NORMALIZATIONS)
        bound = self.log_variance_bound
        if bound is not None and not 0 < bound < math.inf:
            raise InputError(f"log_variance_bound: found {bound}, wanted a positive number. Leave it out for no bound.")


def plan(network: dict, *, channels: int, size: int, latent_dim: int) -> Layout:
    """Lay out a recipe's `network` for square images of `size` pixels.

    Raises InputError for a size that the architecture does not fit, and for a network that says too much or too little.

    >>> network = {"architecture": "resnet", "width": 16, "neck": 8, "hidden": [128]}
    >>> plan(network, channels=1, size=28, latent_dim=9).feature_maps  # at 28, 14 and 7 pixels
    (16, 32, 64)
    """
    check_name("architecture", network.get("architecture"), ARCHITECTURES)
    architecture = ARCHITECTURES[network["architecture"]]
    for key in ("hidden", *architecture.needs):
        if key not in network:
            raise InputError(f"network: found no '{key}', which {architecture.name} needs.")
    known = (*OF_EVERY_NETWORK, *architecture.needs, *architecture.takes)
    for key in network:
        check_name(f"network of {architecture.name}", key, known)
    return Layout(
        architecture.name,
        channels,
        size,
        latent_dim,
        architecture.feature_maps(network, size),
        network.get("neck", 0),
        tuple(network["hidden"]),
        network.get("blocks", 1),
        **{key: network[key] for key in OPTIONAL if key in network},
    )


# --------------------------------------------------------------------------------------------------------------------
# Weights: what a BVAE has once and a VAE twice
# --------------------------------------------------------------------------------------------------------------------


def symmetric_normal_(weight: Tensor, *, forward_fan: float, backward_fan: float, gain: float) -> None:
    """Fill with N(0, 2 gain² / (forward_fan + backward_fan)): Glorot's compromise, made for two directions."""
    nn.init.normal_(weight, std=gain * math.sqrt(2 / (forward_fan + backward_fan)))


class Linear(nn.Module):
    """One weight matrix W (features, inputs), run forward as x Wᵀ and backward as y W."""

    def __init__(self, input_shape: Sequence[int], features: int, *, gain: float):
        super().__init__()
        self.encoded_shape, self.decoded_shape = (features,), tuple(input_shape)
        inputs = math.prod(input_shape)
        self.weight = nn.Parameter(torch.empty(features, inputs))
        symmetric_normal_(self.weight, forward_fan=inputs, backward_fan=features, gain=gain)

    def encode(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(n, *input_shape) -> (n, features)"""
        return F.linear(x.flatten(1), self.weight, bias)

    def decode(self, y: Tensor, bias: Tensor | None = None) -> Tensor:
        """(n, features) -> (n, *input_shape)"""
        return F.linear(y, self.weight.T, bias).unflatten(1, self.decoded_shape)


class Correction(nn.Module):
    """A linear layer W of another stack, run backward as y W + (y A) B.

    A is `first`, (features, rank), and B is `second`, (rank, inputs). B is zero at the start, so the network begins as
    the tied one.
    """

    def __init__(self, shared: Linear, rank: int):
        super().__init__()
        self.decoded_shape = shared.decoded_shape
        features, inputs = shared.weight.shape
        self.owned_elsewhere = (shared,)  # in a tuple, so that its weight is not a parameter of this module as well
        self.first = nn.Parameter(torch.empty(features, rank))
        self.second = nn.Parameter(torch.zeros(rank, inputs))
        nn.init.normal_(self.first, std=features**-0.5)

    def decode(self, y: Tensor, bias: Tensor | None = None) -> Tensor:
        """(n, features) -> (n, *input_shape)"""
        [shared] = self.owned_elsewhere
        return shared.decode(y, bias) + (y @ self.first @ self.second).unflatten(1, self.decoded_shape)


class Convolution(nn.Module):
    """One set of masks W (outputs, inputs, k, k), run forward by convolution and backward by transposed convolution."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int = 1, padding: int = 0, gain: float):
        super().__init__()
        self.encoded_shape, self.decoded_shape = (outputs, 1, 1), (inputs, 1, 1)
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        symmetric_normal_(
            self.weight,
            forward_fan=inputs * kernel**2,
            backward_fan=outputs * kernel**2 / stride**2,  # masks that meet in one pixel on the way back
            gain=gain,
        )

    def encode(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / stride, w / stride)"""
        return F.conv2d(x, self.weight, bias, stride=self.stride, padding=self.padding)

    def decode(self, y: Tensor, bias: Tensor | None = None) -> Tensor:
        """(n, outputs, h, w) -> (n, inputs, h * stride, w * stride)"""
        return F.conv_transpose2d(y, self.weight, bias, stride=self.stride, padding=self.padding)


class Residual(nn.Module):
    """The two 3x3 convolutions of a bidirectional residual block; the skip has no weights."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = Convolution(channels, channels, kernel=3, padding=1, gain=1.0)
        self.second = Convolution(channels, channels, kernel=3, padding=1, gain=1.0)


def build_weights(layout: Layout) -> nn.ModuleList:
    """The weights of a network in forward order, image first. The last is the posterior-mean head."""
    gain = math.sqrt(2) if layout.activation != "identity" else 1.0  # the activation halves the signal
    weights, shape = ARCHITECTURES[layout.architecture].build(layout, gain)
    for features in layout.hidden:
        weights.append(Linear(shape, features, gain=gain))
        shape = (features,)
    weights.append(Linear(shape, layout.latent_dim, gain=1.0))
    return nn.ModuleList(weights)


# --------------------------------------------------------------------------------------------------------------------
# Directions: what the encoder and the decoder each own
# --------------------------------------------------------------------------------------------------------------------


class Gain(nn.Module):
    """A gain and a bias for each unit or feature map: what batch normalisation learns, without its statistics."""

    def __init__(self, features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """(n, features, ...) -> the same shape"""
        shape = (-1, *[1] * (x.ndim - 2))
        return x * self.weight.view(shape) + self.bias.view(shape)


class Units(nn.Module):
    """The units of one layer in one direction: their bias, or their normalisation or gains, and their activation."""

    def __init__(self, shape: Sequence[int], *, normalization: str, activation: str):
        super().__init__()
        if normalization == "none":
            self.norm, self.bias = None, nn.Parameter(torch.zeros(math.prod(shape)))
        else:
            batch = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
            self.norm = (Gain if normalization == "gain" else batch)(shape[0])
        self.activation = ACTIVATIONS[activation]()

    def forward(self, run: Callable[..., Tensor], x: Tensor) -> Tensor:
        """Run `x` through a weight (its `encode` or `decode`) and answer."""
        return self.activation(run(x, self.bias) if self.norm is None else self.norm(run(x)))


class ResidualUnits(nn.Module):
    """The units of a residual block in one direction: between its two convolutions, and after the second."""

    def __init__(self, shape: Sequence[int], *, normalization: str, activation: str):
        super().__init__()
        self.inner = Units(shape, normalization=normalization, activation=activation)
        self.outer = Units(shape, normalization=normalization, activation="identity")
        self.activation = ACTIVATIONS[activation]()


def own_units(weight: nn.Module, direction: str, layout: Layout) -> nn.Module:
    """The units that one direction, "encoded" or "decoded", puts behind `weight`."""
    kind = {"normalization": layout.normalization, "activation": layout.activation}
    if isinstance(weight, Residual):
        return ResidualUnits(weight.first.encoded_shape, **kind)
    return Units(getattr(weight, f"{direction}_shape"), **kind)


def soft_bound(x: Tensor, bound: float) -> Tensor:
    """bound * tanh(x / bound), of the shape of `x`: the identity near 0, and within [-bound, bound] everywhere.

    It differs from x by at most |x|³ / (3 bound²), and its slope is 1 - tanh²(x / bound). It computes in float32 at
    least, because bfloat16 would round results beyond the bound; NaN stays NaN. The published code of NVAE (Vahdat and
    Kautz, arXiv 2007.03898) bounds the log-scales of its posteriors by this function, with a bound of 5.
    """
    return bound * torch.tanh(x.to(torch.promote_types(x.dtype, torch.float32)) / bound)


class Encoder(nn.Module):
    """The forward pass through a stack of weights: the posterior q_f(z|x)."""

    def __init__(self, weights: nn.ModuleList, layout: Layout, *, latent_gain: bool):
        super().__init__()
        *body, head = weights
        self.units = nn.ModuleList(own_units(weight, "encoded", layout) for weight in body)
        self.mean_bias = nn.Parameter(torch.zeros(layout.latent_dim))
        self.log_variance = nn.Linear(math.prod(head.decoded_shape), layout.latent_dim)  # forward only
        nn.init.zeros_(self.log_variance.weight)
        nn.init.zeros_(self.log_variance.bias)
        self.log_variance_bound = layout.log_variance_bound
        self.latent_gain = nn.Parameter(torch.ones(layout.latent_dim)) if latent_gain else None

    def forward(self, weights: nn.ModuleList, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, c, h, w) -> mean and log-variance of the posterior, (n, latent_dim) each."""
        *body, head = weights
        for weight, units in zip(body, self.units, strict=True):
            if isinstance(weight, Residual):  # y = a(x + F(x))
                branch = units.inner(weight.first.encode, x)
                x = units.activation(x + units.outer(weight.second.encode, branch))
            else:
                x = units(weight.encode, x)
        mean = head.encode(x)
        if self.latent_gain is not None:
            mean = self.latent_gain * mean
        mean, log_variance = mean + self.mean_bias, self.log_variance(x.flatten(1))
        if self.log_variance_bound is not None:
            log_variance = soft_bound(log_variance, self.log_variance_bound)
        return mean, log_variance


class Decoder(nn.Module):
    """The backward pass through a stack of weights: what the likelihood p_b(x|z) is built on."""

    def __init__(self, weights: nn.ModuleList, layout: Layout):
        super().__init__()
        image, *body = weights
        self.units = nn.ModuleList(own_units(weight, "decoded", layout) for weight in reversed(body))
        self.image_bias = nn.Parameter(torch.zeros(math.prod(image.decoded_shape)))

    def forward(self, weights: nn.ModuleList, z: Tensor) -> Tensor:
        """(n, latent_dim) -> (n, c, h, w): logits or means, as the likelihood reads them."""
        image, *body = weights
        x = z
        for weight, units in zip(reversed(body), self.units, strict=True):
            if isinstance(weight, Residual):  # x = a(y + Fᵀ(y))
                branch = units.inner(weight.second.decode, x)
                x = units.activation(x + units.outer(weight.first.decode, branch))
            else:
                x = units(weight.decode, x)
        return image.decode(x, self.image_bias)


# --------------------------------------------------------------------------------------------------------------------
# The two models
# --------------------------------------------------------------------------------------------------------------------


class VAE(nn.Module):
    """An ordinary variational autoencoder: encoder and decoder each have weights of their own.

    `likelihood` (bvae.objective) reads what the decoder returns. `latent_gain` adds one gain per latent on the
    posterior mean. Images are (n, c, h, w) floats in [0, 1].
    """

    likelihood: Any  # Bernoulli or Gaussian of bvae.objective

    def __init__(self, layout: Layout, likelihood: nn.Module, *, latent_gain: bool = False):
        super().__init__()
        self.layout = layout
        self.encoder_weights = build_weights(layout)
        self.decoder_weights = self.weights_to_decode()
        self.encoder = Encoder(self.encoder_weights, layout, latent_gain=latent_gain)
        self.decoder = Decoder(self.decoder_weights, layout)
        self.likelihood = likelihood
        self.register_load_state_dict_pre_hook(_refuse_two_sets)

    def weights_to_decode(self) -> nn.ModuleList:
        """A second set of weights, of the same shapes as the encoder's."""
        return build_weights(self.layout)

    @property
    def tied(self) -> bool:
        """Whether encoder and decoder run through the same weights."""
        return self.decoder_weights is self.encoder_weights

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(n, c, h, w) in [0, 1] -> mean and log-variance of q(z|x), (n, latent_dim) each.

        Raises InputError for integers or another shape. To look at every image's range would take time in each step.
        """
        shape = (self.layout.channels, self.layout.size, self.layout.size)
        if not images.is_floating_point() or tuple(images.shape[1:]) != shape:
            raise InputError(
                f"images: found {images.dtype} of shape {tuple(images.shape)}, wanted floats in [0, 1] of shape"
                f" {('n', *shape)}. Of bytes: images / 255."
            )
        return self.encoder(self.encoder_weights, images)

    def decode(self, z: Tensor) -> Tensor:
        """(n, latent_dim) -> (n, c, h, w): the parameters that `likelihood` reads."""
        return self.decoder(self.decoder_weights, z)

    def decode_mean(self, z: Tensor) -> Tensor:
        """(n, latent_dim) -> (n, c, h, w): the mean image of p(x|z)."""
        return self.likelihood.mean(self.decode(z))

    @torch.no_grad()
    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """(count, c, h, w): mean images of z drawn from the prior N(0, I); a `generator` is one of the CPU."""
        z = torch.randn(count, self.layout.latent_dim, generator=generator)
        return self.decode_mean(z.to(self.decoder.image_bias))  # its device and precision

    @torch.no_grad()
    def interpolate(self, first: Tensor, second: Tensor, *, steps: int) -> Tensor:
        """Images (n, c, h, w) and others -> (n, steps, c, h, w), from the one's reconstruction to the other's.

        Decoded from evenly spaced points of the straight line between the posterior means. Raises InputError for pixels
        that are not in [0, 1].
        """
        for images in (first, second):
            if (images.clamp(0, 1) != images).any():
                low, high = (float(bound) for bound in images.aminmax())
                raise InputError(
                    f"images: found pixels from {low:g} to {high:g}, wanted [0, 1]. Of bytes: images / 255."
                )
        start, end = (self.encode(images.to(self.decoder.image_bias))[0] for images in (first, second))
        ways = [self.decode_mean(torch.lerp(start, end, share)) for share in torch.linspace(0, 1, steps).tolist()]
        return torch.stack(ways, dim=1)


class BVAE(VAE):
    """A bidirectional variational autoencoder: one set of weights, encoding forward and decoding backward.

    >>> from bvae import Bernoulli
    >>> layout = plan({"architecture": "mlp", "hidden": [512, 256]}, channels=1, size=28, latent_dim=128)
    >>> [parameter_breakdown(kind(layout, Bernoulli()))["total"] for kind in (BVAE, VAE)]
    [600592, 1165840]
    """

    def weights_to_decode(self) -> nn.ModuleList:
        """The encoder's own weights."""
        return self.encoder_weights


class LowRankBVAE(BVAE):
    """A BVAE with latent gains, each linear layer of whose decoder has a `Correction` of its own.

    It is for the question how much untying helps. With rank 0 it would be the BVAE with gains.
    """

    def __init__(self, layout: Layout, likelihood: nn.Module, *, rank: int):
        if type(rank) is not int or rank < 0:
            raise InputError(f"rank: found {rank!r}, wanted an integer of 0 or more.")
        self.rank = rank
        super().__init__(layout, likelihood, latent_gain=True)

    def weights_to_decode(self) -> nn.ModuleList:
        """The encoder's weights, the linear ones corrected."""
        weights = self.encoder_weights
        return nn.ModuleList(Correction(of, self.rank) if isinstance(of, Linear) else of for of in weights)


def _refuse_two_sets(model: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: object) -> None:
    """Before a model with shared weights loads a state: of two sets the second would replace the first in silence."""
    encoder, decoder = (f"{prefix}{direction}_weights." for direction in ("encoder", "decoder"))
    own = {prefix + name: parameter for name, parameter in model.named_parameters(remove_duplicate=False)}
    for name in state:
        other = name.replace(encoder, decoder, 1)
        shared = name.startswith(encoder) and name in own and own.get(other) is own[name]
        if not shared or other not in state or state[name].shape != state[other].shape:
            continue
        first, second = state[name], state[other].to(state[name].device)
        if not ((first == second) | (first.isnan() & second.isnan())).all():
            raise InputError(
                f"state_dict: found a '{name}' that differs from '{other}', wanted equal ones, because a"
                f" {type(model).__name__} shares this weight. Load what a VAE has learned into a VAE."
            )


def parameter_breakdown(model: VAE) -> dict[str, int]:
    """Count the unique parameters in five lines; `total` is what the tables call parameters (buffers are not trained).

    `weights`: the weights of the layers, shared ones once. `one_direction`: the log-variance head, latent gains, a
    learned sigma. `biases` and `normalization` (or gains): per direction. `buffers`: statistics of batch normalisation.
    """
    counts = dict.fromkeys(("weights", "one_direction", "biases", "normalization"), 0)
    for name, parameter in model.named_parameters():  # a tied parameter comes once
        if name.startswith(("encoder_weights.", "decoder_weights.")):
            line = "weights"
        elif name.startswith(("encoder.log_variance.", "encoder.latent_gain", "likelihood.")):
            line = "one_direction"
        else:
            line = "normalization" if ".norm." in name else "biases"
        counts[line] += parameter.numel()
    return counts | {
        "total": sum(counts.values()),
        "buffers": sum(buffer.numel() for buffer in model.buffers()),
    }


def log_variance_parameters(model: VAE) -> int:
    """Count the parameters of the log-variance head, which only the forward pass has: the limit of the cut."""
    return sum(parameter.numel() for parameter in model.encoder.log_variance.parameters())
