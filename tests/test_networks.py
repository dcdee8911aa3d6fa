"""The networks against identities and counts by hand: what is tied, what belongs to one direction, what it costs."""

import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from bvae.arms import ARMS
from bvae.arms._narrowing import narrow
from bvae.errors import InputError
from bvae.networks import (
    BVAE,
    VAE,
    Convolution,
    Layout,
    Linear,
    Residual,
    build_weights,
    parameter_breakdown,
    plan,
    symmetric_normal_,
)
from bvae.objective import Bernoulli, Gaussian, elbo_loss
from bvae.runs import Run, build_model
from helpers.small import SMALL_LAYOUTS
from helpers.studies import FOUR

STUDIES = sorted(path for path in (Path(__file__).parents[1] / "config").glob("*.yaml") if path.stem != "claims")
SHAPES = {  # (channels, pixels) as published; celeba64 as cropped and resized
    "digits": (1, 8),
    "mnist": (1, 28),
    "mnist_binarized": (1, 28),
    "mnist_validation": (1, 28),
    "fashion_mnist_validation": (1, 28),
    "cifar10_jpeg_validation": (3, 32),
    "fashion_mnist": (1, 28),
    "cifar10": (3, 32),
    "cifar10_jpeg": (3, 32),
    "celeba64": (3, 64),
}
RECIPES = {  # networks as a study states them
    "mlp": {"architecture": "mlp", "hidden": [20, 10]},
    "conv": {"architecture": "conv", "width": 4, "neck": 3, "hidden": [10]},
    "resnet": {"architecture": "resnet", "width": 4, "neck": 3, "hidden": [10], "blocks": 2},
}


def unique_parameters(model: nn.Module) -> int:
    """Elements of the parameters that have storage of their own, counted here without the project's code."""
    return sum({parameter.data_ptr(): parameter.numel() for parameter in model.parameters()}.values())


def untie(tied: BVAE, untied: VAE) -> None:
    """Give both stacks of a VAE the weights of a BVAE, and both directions its biases and normalisation."""
    untied.encoder_weights.load_state_dict(tied.encoder_weights.state_dict())
    untied.decoder_weights.load_state_dict(tied.encoder_weights.state_dict())
    untied.encoder.load_state_dict(tied.encoder.state_dict())
    untied.decoder.load_state_dict(tied.decoder.state_dict())


def scramble(model: nn.Module, seed: int = 0) -> None:
    """Random parameters: initial ones are special (zero biases, a zero log-variance head, equal unit gains)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


def variant(architecture: str, normalization: str = "none", activation: str = "silu") -> Layout:
    settings = vars(SMALL_LAYOUTS[architecture]) | {"normalization": normalization, "activation": activation}
    return Layout(**settings)


# --- the weights ----------------------------------------------------------------------------------------------------

MAPS = {
    "linear": (lambda: Linear((3, 4, 4), 7, gain=1.0), (3, 4, 4), (7,)),
    "kernel 4 stride 2": (lambda: Convolution(3, 5, kernel=4, stride=2, padding=1, gain=1.0), (3, 8, 8), (5, 4, 4)),
    "kernel 4 stride 2, 14": (
        lambda: Convolution(2, 3, kernel=4, stride=2, padding=1, gain=1.0),
        (2, 14, 14),
        (3, 7, 7),
    ),
    "kernel 3": (lambda: Convolution(3, 5, kernel=3, padding=1, gain=1.0), (3, 7, 7), (5, 7, 7)),
    "kernel 1": (lambda: Convolution(3, 5, kernel=1, gain=1.0), (3, 7, 7), (5, 7, 7)),
}


@pytest.mark.parametrize("name", MAPS)
def test_decode_is_the_adjoint_of_encode(float64, name):
    build, decoded_shape, encoded_shape = MAPS[name]
    torch.manual_seed(0)
    weight, x, y = build(), torch.randn(6, *decoded_shape), torch.randn(6, *encoded_shape)
    there, back = weight.encode(x), weight.decode(y)
    assert (there.shape, back.shape) == (y.shape, x.shape)
    assert (there * y).sum().item() == pytest.approx((x * back).sum().item(), rel=1e-12)
    assert sum(p.numel() for p in weight.parameters()) == weight.weight.numel()  # nothing beside the shared weight


@pytest.mark.parametrize(
    ("module", "variance"),
    [
        (lambda: Linear((700,), 500, gain=1.0), 2 / (700 + 500)),
        (lambda: Linear((7, 10, 10), 500, gain=math.sqrt(2)), 2 * 2 / (700 + 500)),
        (lambda: Convolution(64, 96, kernel=4, stride=2, padding=1, gain=1.0), 2 / (64 * 16 + 96 * 16 / 4)),
        (lambda: Convolution(96, 64, kernel=3, padding=1, gain=math.sqrt(2)), 2 * 2 / ((96 + 64) * 9)),
        (lambda: Convolution(300, 200, kernel=1, gain=1.0), 2 / (300 + 200)),
    ],
    ids=["linear", "linear with gain", "kernel 4", "kernel 3 with gain", "kernel 1"],
)
def test_initial_spread_is_the_compromise_of_both_directions(module, variance):
    torch.manual_seed(0)
    weight = module().weight
    assert weight.std().item() == pytest.approx(math.sqrt(variance), rel=0.02)
    assert abs(weight.mean().item()) < 4 * math.sqrt(variance / weight.numel())


def test_symmetric_normal_formula():
    torch.manual_seed(0)
    weight = torch.empty(400, 500)
    symmetric_normal_(weight, forward_fan=500, backward_fan=300, gain=3.0)
    assert weight.std().item() == pytest.approx(3 * math.sqrt(2 / 800), rel=0.02)


# --- tying ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", ["none", "batch", "gain"])
@pytest.mark.parametrize("architecture", SMALL_LAYOUTS)
def test_tied_gradient_is_the_sum_of_both_directions(float64, architecture, normalization):
    layout = variant(architecture, normalization)
    torch.manual_seed(0)
    tied, untied = BVAE(layout, Bernoulli()), VAE(layout, Bernoulli())
    scramble(tied)
    untie(tied, untied)
    images = torch.rand(6, layout.channels, layout.size, layout.size)
    noise = torch.randn(6, layout.latent_dim)
    losses = [elbo_loss(model, images, noise[None])[0] for model in (tied, untied)]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-14)
    encoders = dict(untied.encoder_weights.named_parameters())
    decoders = dict(untied.decoder_weights.named_parameters())
    for name, parameter in tied.encoder_weights.named_parameters():
        forward, backward = encoders[name].grad, decoders[name].grad
        scale = float(parameter.grad.abs().max())
        assert min(float(forward.abs().max()), float(backward.abs().max())) > 1e-6 * scale  # both directions speak
        assert float((parameter.grad - forward - backward).abs().max()) <= 1e-10 * scale, name
    own = dict(untied.named_parameters())
    for name, parameter in tied.named_parameters():  # what belongs to one direction has that direction's gradient
        if not name.startswith("encoder_weights."):
            torch.testing.assert_close(parameter.grad, own[name].grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("architecture", SMALL_LAYOUTS)
def test_gains_of_one_are_a_network_without_gains(float64, architecture):
    """What gains add is nothing at first; doubled in the encoder's first layer, they are doubled weights there."""
    plain, gains = (BVAE(variant(architecture, kind), Bernoulli()) for kind in ("none", "gain"))
    scramble(plain)
    gains.load_state_dict(plain.state_dict(), strict=False)
    x = torch.rand(4, plain.layout.channels, plain.layout.size, plain.layout.size)
    for parameter in (*plain.encoder.units.parameters(), *plain.decoder.units.parameters()):
        torch.nn.init.zeros_(parameter)  # the biases, which have other names and places there
    z = torch.randn(4, plain.layout.latent_dim)

    def outputs(model: BVAE) -> tuple[torch.Tensor, ...]:
        return (*model.encode(x), model.decode(z))

    for ours, theirs in zip(outputs(plain), outputs(gains), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        first = gains.encoder.units[0]
        first.norm.weight *= 2
        plain.encoder_weights[0].weight *= 2
    for ours, theirs in zip(plain.encode(x), gains.encode(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(plain.decode(z), gains.decode(z))  # only one direction has that gain


@pytest.mark.parametrize("architecture", SMALL_LAYOUTS)
def test_linear_networks_decode_by_the_transpose(float64, architecture):
    """Without activations and biases the whole decoder is the transpose of the whole encoder, residuals included."""
    layout = variant(architecture, activation="identity")
    torch.manual_seed(0)
    model = BVAE(layout, Bernoulli())
    x, z = torch.randn(4, layout.channels, layout.size, layout.size), torch.randn(4, layout.latent_dim)
    there, back = model.encode(x)[0], model.decode(z)
    assert (there * z).sum().item() == pytest.approx((x * back).sum().item(), rel=1e-11)


def test_residual_block_by_hand(float64):
    """Forward y = a(x + F(x)), backward x = a(y + F^T(y)), F = second . a . first, F^T = first^T . a . second^T."""
    layout = Layout("resnet", 1, 8, 3, (2, 4), neck=3, blocks=1, activation="relu")
    torch.manual_seed(0)
    model = BVAE(layout, Bernoulli())
    scramble(model)
    stem, halve, block, neck, head = model.encoder_weights
    assert isinstance(block, Residual)
    relu, conv, deconv = torch.relu, nn.functional.conv2d, nn.functional.conv_transpose2d
    x = torch.randn(2, 1, 8, 8)
    e = model.encoder.units
    h = relu(conv(x, stem.weight, e[0].bias, padding=1))
    h = relu(conv(h, halve.weight, e[1].bias, stride=2, padding=1))
    inside = relu(conv(h, block.first.weight, e[2].inner.bias, padding=1))
    h = relu(h + conv(inside, block.second.weight, e[2].outer.bias, padding=1))
    h = relu(conv(h, neck.weight, e[3].bias)).flatten(1)
    torch.testing.assert_close(model.encode(x)[0], h @ head.weight.T + model.encoder.mean_bias)
    log_variance = h @ model.encoder.log_variance.weight.T + model.encoder.log_variance.bias
    torch.testing.assert_close(model.encode(x)[1], log_variance)
    z = torch.randn(2, 3)
    d = model.decoder.units
    h = relu(z @ head.weight + d[0].bias).unflatten(1, (3, 4, 4))
    h = relu(deconv(h, neck.weight, d[1].bias))
    inside = relu(deconv(h, block.second.weight, d[2].inner.bias, padding=1))
    h = relu(h + deconv(inside, block.first.weight, d[2].outer.bias, padding=1))
    h = relu(deconv(h, halve.weight, d[3].bias, stride=2, padding=1))
    torch.testing.assert_close(model.decode(z), deconv(h, stem.weight, model.decoder.image_bias, padding=1))


def test_latent_gain_multiplies_the_mean_before_its_bias(float64):
    torch.manual_seed(0)
    model = BVAE(SMALL_LAYOUTS["mlp"], Bernoulli(), latent_gain=True)
    x = torch.rand(4, 1, 8, 8)
    before, log_variance = model.encode(x)
    with torch.no_grad():
        model.encoder.latent_gain.copy_(torch.tensor([2.0, -1.0, 0.5]))
        model.encoder.mean_bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    after, same = model.encode(x)
    torch.testing.assert_close(after, before * torch.tensor([2.0, -1.0, 0.5]) + torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(log_variance, same)


@pytest.mark.parametrize("architecture", SMALL_LAYOUTS)
def test_each_direction_has_its_own_batch_statistics(architecture):
    layout = variant(architecture, "batch")
    torch.manual_seed(0)
    model = BVAE(layout, Bernoulli()).train()
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert {name.split(".")[0] for name in statistics} == {"encoder", "decoder"}

    def moved() -> set[str]:
        return {name for name, buffer in model.named_buffers() if not torch.equal(buffer, statistics[name])}

    encoders = {name for name in statistics if name.startswith("encoder.")}
    model.encode(torch.rand(6, layout.channels, layout.size, layout.size))
    assert moved() == encoders
    model.decode(torch.randn(6, layout.latent_dim))
    assert moved() == set(statistics)


@pytest.mark.parametrize("normalization", ["none", "batch", "gain"])
@pytest.mark.parametrize("architecture", SMALL_LAYOUTS)
@pytest.mark.parametrize("arm", FOUR)
def test_every_parameter_is_used(arm, architecture, normalization):
    layout = variant(architecture, normalization)
    torch.manual_seed(0)
    model = ARMS[arm].model(layout, Gaussian(0.3, learned=True))
    scramble(model)
    images = torch.rand(6, layout.channels, layout.size, layout.size)
    elbo_loss(model, images, torch.randn(1, 6, layout.latent_dim))[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("architecture", RECIPES)
def test_arms_start_from_the_same_weights(architecture):
    settings = {"network": RECIPES[architecture], "likelihood": {"name": "auto"}}
    models = {
        arm: build_model(Run("r", settings, "fake", arm, 4, seed=3), channels=1, size=8)[0]
        for arm in ("bvae", "bvae_gain", "vae")
    }
    wanted = models["bvae"].encoder_weights.state_dict()
    for model in models.values():
        for name, tensor in model.encoder_weights.state_dict().items():
            assert torch.equal(tensor, wanted[name]), name
    drawn = models["vae"].decoder_weights.state_dict()
    assert not any(torch.equal(tensor, wanted[name]) for name, tensor in drawn.items())
    others = [Run("r", settings, "fake", "bvae", 4, seed=4), Run("r", settings, "other", "bvae", 4, seed=3)]
    for run in others:
        other = build_model(run, channels=1, size=8)[0].encoder_weights.state_dict()
        assert not any(torch.equal(tensor, wanted[name]) for name, tensor in other.items())


def test_building_a_model_leaves_the_random_state_alone():
    settings = {"network": RECIPES["mlp"], "likelihood": {"name": "auto"}}
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    build_model(Run("r", settings, "fake", "vae_narrow", 4, seed=3), channels=1, size=8)
    assert torch.equal(torch.rand(3), wanted)


# --- shapes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 28, 32, 64])
@pytest.mark.parametrize("architecture", RECIPES)
def test_decode_shape_inverts_encode_shape(architecture, size, channels):
    layout = plan(RECIPES[architecture], channels=channels, size=size, latent_dim=5)
    for model in (BVAE(layout, Bernoulli()), VAE(layout, Bernoulli())):
        mean, log_variance = model.encode(torch.rand(2, channels, size, size))
        assert mean.shape == log_variance.shape == (2, 5)
        assert model.decode(mean).shape == model.decode_mean(mean).shape == (2, channels, size, size)


@pytest.mark.parametrize("size", [2, 3, 4, 7, 9, 30, 36, 49])
@pytest.mark.parametrize("architecture", ["conv", "resnet"])
def test_refused_size_names_itself_and_the_architecture(architecture, size):
    with pytest.raises(InputError, match=f"'{architecture}'.* {size} pixels"):
        plan(RECIPES[architecture], channels=1, size=size, latent_dim=5)


@pytest.mark.parametrize("size", [2, 3, 4, 7, 9, 30, 36, 49])
def test_mlp_fits_every_size(size):
    model = BVAE(plan(RECIPES["mlp"], channels=3, size=size, latent_dim=5), Bernoulli())
    assert model.decode(model.encode(torch.rand(2, 3, size, size))[0]).shape == (2, 3, size, size)


@pytest.mark.parametrize(
    ("architecture", "size", "feature_maps"),
    [
        ("conv", 8, (4,)),
        ("conv", 28, (4, 8)),
        ("conv", 32, (4, 8, 16)),
        ("conv", 64, (4, 8, 16, 20)),
        ("resnet", 28, (4, 8, 16)),
        ("resnet", 64, (4, 8, 16, 20, 20)),
    ],
)
def test_feature_maps_double_up_to_the_widest(architecture, size, feature_maps):
    layout = plan(RECIPES[architecture] | {"max_width": 20}, channels=3, size=size, latent_dim=5)
    assert layout.feature_maps == feature_maps


# --- counts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hidden", "vae", "bvae"), [((400,), 782_640, 417_840), ((512, 256), 1_165_840, 600_592)], ids=["400", "512-256"]
)
def test_parameters_of_perceptrons_by_hand(hidden, vae, bvae):
    layout = Layout("mlp", 1, 28, 128, hidden=hidden)
    assert unique_parameters(VAE(layout, Bernoulli())) == vae
    assert unique_parameters(BVAE(layout, Bernoulli())) == bvae


@pytest.mark.parametrize(
    ("hidden", "latent_dim", "percent"),
    [((400,), 128, 46.6), ((512, 256), 128, 48.5), ((400,), 16, 49.4), ((1024, 1024), 128, 48.3)],
    ids=["400-128", "512-256-128", "400-16", "1024-1024-128"],
)
def test_cut_of_perceptrons(hidden, latent_dim, percent):
    """The dearer the log-variance head, which only one direction has, the further below a half."""
    layout = Layout("mlp", 1, 28, latent_dim, hidden=hidden)
    bvae, vae = (unique_parameters(build(layout, Bernoulli())) for build in (BVAE, VAE))
    assert 100 * (1 - bvae / vae) == pytest.approx(percent, abs=0.05)


@pytest.mark.parametrize(
    ("channels", "size", "maps", "vae", "bvae"),
    [(1, 28, (32, 64), 1_274_561, 839_873), (3, 64, (64, 128, 256, 512), 8_669_571, 4_865_411)],
    ids=["32-64", "64-128-256-512"],
)
def test_parameters_of_convolutions_by_hand(channels, size, maps, vae, bvae):
    """Counts by hand for kernels of 4, 128 latents, biases and normalisation both, no neck: ours has a neck instead."""
    layout = Layout("conv", channels, size, 128, maps, neck=maps[-1])
    neck, neck_biases = maps[-1] ** 2, 2 * maps[-1]
    normalization = 2 * (sum(maps) + sum(maps[:-1]))  # behind the convolutions of either direction
    assert unique_parameters(VAE(layout, Bernoulli())) == vae + 2 * neck + neck_biases - normalization
    assert unique_parameters(BVAE(layout, Bernoulli())) == bvae + neck + neck_biases - normalization


def test_breakdown_of_a_perceptron_by_hand():
    weights, head = 784 * 400 + 400 * 128, 400 * 128 + 128
    biases = 400 + 128 + 400 + 784  # forward: hidden, mean; backward: hidden, image
    assert parameter_breakdown(BVAE(Layout("mlp", 1, 28, 128, hidden=(400,)), Bernoulli())) == {
        "weights": weights,
        "one_direction": head,
        "biases": biases,
        "normalization": 0,
        "total": weights + head + biases,
        "buffers": 0,
    }


@pytest.mark.parametrize("normalization", ["batch", "gain"])
def test_breakdown_of_a_residual_network_by_hand(normalization):
    layout = Layout("resnet", 3, 8, 4, (5, 6), neck=2, hidden=(7,), blocks=1, normalization=normalization)
    #          stem         halving        block            neck    hidden        mean
    weights = 5 * 3 * 9 + 6 * 5 * 16 + 2 * (6 * 6 * 9) + 2 * 6 + 7 * (2 * 16) + 4 * 7
    forward = 5 + 6 + 2 * 6 + 2 + 7  # normalised channels: stem, halving, block, neck, hidden
    backward = 7 + 2 + 6 + 2 * 6 + 5  # behind mean, hidden, neck, block, halving; the image has a bias
    expected = {
        "weights": weights,
        "one_direction": 7 * 4 + 4 + 4 + 1,  # log-variance head, latent gain, sigma
        "biases": 4 + 3,  # mean, image
        "normalization": 2 * (forward + backward),
        # mean and variance; 12 counters of batches; a gain has none
        "buffers": 2 * (forward + backward) + 12 if normalization == "batch" else 0,
    }
    expected["total"] = sum(expected[key] for key in ("weights", "one_direction", "biases", "normalization"))
    model = BVAE(layout, Gaussian(0.1, learned=True), latent_gain=True)
    assert parameter_breakdown(model) == expected


@pytest.mark.parametrize("normalization", ["none", "batch", "gain"])
@pytest.mark.parametrize("architecture", SMALL_LAYOUTS)
def test_counts_of_the_arms_differ_by_what_they_share(architecture, normalization):
    layout = variant(architecture, normalization)
    models = {name: ARMS[name].model(layout, Gaussian(learned=True)) for name in FOUR}
    lines = {arm: parameter_breakdown(model) for arm, model in models.items()}
    one_set = unique_parameters(build_weights(layout))
    assert lines["vae"]["total"] - lines["bvae"]["total"] == one_set == lines["bvae"]["weights"]
    assert lines["bvae_gain"]["total"] - lines["bvae"]["total"] == layout.latent_dim
    for arm, model in models.items():
        assert lines[arm]["total"] == unique_parameters(model)
        parts = ("weights", "one_direction", "biases", "normalization")
        assert lines[arm]["total"] == sum(lines[arm][part] for part in parts)
        assert lines[arm]["buffers"] == sum(buffer.numel() for buffer in model.buffers())


def test_narrow_is_the_nearest_single_layer_by_trying_all():
    """Of every width of a single hidden layer, the one whose count is nearest: for 784-400-128 it is 214 or 213."""
    layout = Layout("mlp", 1, 28, 128, hidden=(400,))

    def vae_parameters(width: int) -> int:
        return 2 * (784 * width + width * 128) + 2 * width + 128 + 784 + width * 128 + 128

    assert (vae_parameters(400), vae_parameters(214)) == (782_640, 419_196)
    nearest = min(range(1, 401), key=lambda width: abs(vae_parameters(width) - 417_840))
    assert narrow(layout, 417_840).hidden == (nearest,)


# --- the shipped studies --------------------------------------------------------------------------------------------


def shipped() -> dict[str, Layout]:
    """Every network of config/*.yaml, for every data set and latent dimension that a block gives it."""
    layouts = {}
    for path in STUDIES:
        study = yaml.safe_load(path.read_text(encoding="utf-8"))
        for block in study["blocks"]:
            for recipe in block["recipes"]:
                for dataset in block["datasets"]:
                    channels, size = SHAPES[dataset]
                    for latent_dim in block["latent_dims"]:
                        network = study["recipes"][recipe]["network"]
                        layout = plan(network, channels=channels, size=size, latent_dim=latent_dim)
                        layouts[f"{path.stem}-{recipe}-{dataset}-{latent_dim}"] = layout
    return layouts


SHIPPED = shipped()
DISTINCT = {layout: name for name, layout in SHIPPED.items()}  # many studies share a network


def on_meta(build, layout: Layout) -> nn.Module:
    with torch.device("meta"):
        return build(layout, Bernoulli())


def test_the_papers_study_has_its_four_data_sets():
    wanted = {"mnist", "fashion_mnist", "cifar10", "celeba64"}
    assert {name.split("-")[-2] for name in SHIPPED if name.startswith("paper-")} == wanted


@pytest.mark.parametrize("name", [name for name in SHIPPED if name.startswith("paper-")])
def test_the_papers_networks_are_cut_by_half_and_convolutional(name):
    layout = SHIPPED[name]
    tied, untied = on_meta(BVAE, layout), on_meta(VAE, layout)
    bvae, vae = (sum(p.numel() for p in model.parameters()) for model in (tied, untied))
    assert 0.48 <= 1 - bvae / vae < 0.5
    masks = sum(p.numel() for p in tied.encoder_weights.parameters() if p.ndim == 4)
    assert masks >= 0.5 * parameter_breakdown(tied)["weights"]


RANKS = {"bvae_rank4": 4, "bvae_rank16": 16, "bvae_rank64": 64}


@pytest.mark.parametrize(("arm", "rank"), RANKS.items())
def test_a_correction_of_low_rank_costs_its_two_factors(arm, rank):
    """784-512-256-128: the gained BVAE's 602,256 parameters, and rank (in + out) for each of the three layers."""
    network = {"architecture": "mlp", "hidden": [512, 256], "normalization": "gain"}
    layout = plan(network, channels=1, size=28, latent_dim=128)
    count = parameter_breakdown(on_meta(ARMS[arm].model, layout))["total"]
    assert count == 602_256 + rank * (784 + 512 + 512 + 256 + 256 + 128)


@pytest.mark.parametrize("architecture", SMALL_LAYOUTS)
def test_a_corrected_decoder_is_the_tied_one_and_a_matrix_of_low_rank(architecture):
    layout = SMALL_LAYOUTS[architecture]
    models = []
    for arm in ("bvae_gain", "bvae_rank4"):
        torch.manual_seed(0)
        models.append(ARMS[arm].model(layout, Bernoulli()).eval())
    tied, corrected = models
    images, z = torch.rand(5, layout.channels, layout.size, layout.size), torch.randn(5, layout.latent_dim)
    assert all(torch.equal(*terms) for terms in zip(tied.encode(images), corrected.encode(images), strict=True))
    assert torch.equal(tied.decode(z), corrected.decode(z))  # the correction is zero at first
    head, shared = corrected.decoder_weights[-1], corrected.encoder_weights[-1]
    torch.nn.init.normal_(head.second)
    change = (head.first @ head.second).detach()
    assert torch.linalg.matrix_rank(change) == min(4, *change.shape)
    y = torch.randn(5, layout.latent_dim)
    expected = y @ (shared.weight + change)
    torch.testing.assert_close(head.decode(y).flatten(1), expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(tied.decode(z), corrected.decode(z))
    elbo_loss(corrected, images, torch.randn(1, 5, layout.latent_dim))[0].backward()
    # the gradient of a shared weight is there, and those of both factors
    assert all(parameter.grad is not None for parameter in corrected.parameters())


@pytest.mark.parametrize(
    ("network", "size", "bvae", "narrow_vae"),
    [  # without hidden layers there is nothing to narrow: (8² z + z) + head (8² z + z) + 8², and 8² z more
        ({"architecture": "mlp", "hidden": []}, 8, 64 * 7 + 7 + 64 * 7 + 7 + 64, 3 * 64 * 7 + 7 + 7 + 64),
        ({"architecture": "mlp", "hidden": []}, 16, 256 * 7 + 7 + 256 * 7 + 7 + 256, 3 * 256 * 7 + 7 + 7 + 256),
    ],
)
def test_a_narrow_vae_that_cannot_be_narrowed_says_how_much_larger_it_is(network, size, bvae, narrow_vae):
    layout = plan(network, channels=1, size=size, latent_dim=7)
    counts = {arm: parameter_breakdown(on_meta(ARMS[arm].model, layout))["total"] for arm in ("bvae", "vae_narrow")}
    assert counts == {"bvae": bvae, "vae_narrow": narrow_vae}
    assert f"{100 * (narrow_vae / bvae - 1):.1f} % more" in ARMS["vae_narrow"].unequal(ARMS["bvae"], counts)
    assert ARMS["bvae"].unequal(ARMS["vae_narrow"], counts) is None  # it is the narrow one that should be as large


@pytest.mark.parametrize("name", DISTINCT.values())
def test_the_narrow_vae_is_within_one_percent(name):
    layout = SHIPPED[name]
    bvae, narrow_vae = (
        sum(p.numel() for p in on_meta(ARMS[arm].model, layout).parameters()) for arm in ("bvae", "vae_narrow")
    )
    assert abs(narrow_vae - bvae) <= 0.01 * bvae
    slim = narrow(layout, bvae)
    assert (slim.latent_dim, len(slim.hidden), len(slim.feature_maps)) == (
        layout.latent_dim,
        len(layout.hidden),
        len(layout.feature_maps),
    )
