"""The soft bound on the log-variance: its closed form, its slope, and that every arm has it or none."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
import yaml

from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.evaluation import protocol
from bvae.evaluation.cost import measure_costs
from bvae.networks import VAE, Layout, parameter_breakdown, plan, soft_bound
from bvae.objective import Bernoulli, Gaussian, elbo_loss, kl_divergence
from bvae.runs import FORMAT, Run, load_run, read_record
from bvae.study.runs import settings_key, training_settings
from bvae.system.files import write_tensors
from bvae.training import build_optimizer, training_step
from helpers.checkouts import ROOT
from helpers.small import SETTINGS, SMALL_LAYOUTS
from helpers.studies import FOUR, check, sound
from helpers.training_runs import CPU, NETWORKS, make_run, train_into

BOUNDS = (0.5, 1.0, 4.0, 10.0)
EXTREMES = [1e4, -1e4, 1e30, -1e30, math.inf, -math.inf]


def models(architecture: str, bound: float | None, seed: int = 0) -> dict[str, VAE]:
    """Each arm with random parameters, the log-variance head's too, and log-variances of some 3."""
    found = {}
    for name in FOUR:
        torch.manual_seed(seed)
        model = ARMS[name].model(replace(SMALL_LAYOUTS[architecture], log_variance_bound=bound), Bernoulli())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn(parameter.shape)
            model.encoder.log_variance.bias += torch.tensor([3.0, -3.0, 0.1])
        found[name] = model
    return found


def batch(model: VAE) -> torch.Tensor:
    """Six images in [0, 1], (6, c, h, w)."""
    return torch.rand(6, model.layout.channels, 8, 8, generator=torch.Generator().manual_seed(1))


# --- the function -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", BOUNDS)
def test_values_are_those_of_the_closed_form(bound):
    logits = [-30.0, -4.0, -1.5, -0.2, 0.0, 0.2, 1.5, 4.0, 30.0]
    found = soft_bound(torch.tensor(logits, dtype=torch.float64), bound)
    assert found.tolist() == pytest.approx([bound * math.tanh(x / bound) for x in logits], rel=1e-14)
    assert soft_bound(torch.tensor(4.0, dtype=torch.float64), 4.0).item() == pytest.approx(3.0463766238, rel=1e-9)


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_gradient_is_one_minus_the_square_of_tanh(bound):
    x = torch.tensor([-6.0, -1.0, -0.1, 0.0, 0.1, 1.0, 6.0], dtype=torch.float64, requires_grad=True)
    [slope] = torch.autograd.grad(soft_bound(x, bound).sum(), x)
    assert slope.tolist() == pytest.approx([1 - math.tanh(v / bound) ** 2 for v in x.tolist()], rel=1e-12)
    assert slope[3] == 1
    assert torch.autograd.gradcheck(lambda values: soft_bound(values, bound), x)


@pytest.mark.parametrize("bound", BOUNDS)
def test_small_values_are_kept_to_the_third_order(bound):
    x = torch.linspace(-bound, bound, 401, dtype=torch.float64)
    error = (soft_bound(x, bound) - x).abs()
    assert (error <= x.abs() ** 3 / (3 * bound**2) + 1e-16).all()
    near = torch.tensor(0.01 * bound, dtype=torch.float64)
    assert (near - soft_bound(near, bound)).item() == pytest.approx(near.item() ** 3 / (3 * bound**2), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bound", [*BOUNDS, 5.3])
def test_nothing_leaves_the_bound(dtype, bound):
    x = torch.tensor([*EXTREMES, 88.0, -88.0, 5.3, 0.0], dtype=dtype)
    found = soft_bound(x, bound)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert found.abs().max() == torch.tensor(bound, dtype=found.dtype)  # 5.3 as this precision has it
    assert found[:6].tolist() == pytest.approx([bound, -bound] * 3, rel=1e-7)
    assert soft_bound(torch.tensor(math.nan), bound).isnan()


# --- the encoder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", SMALL_LAYOUTS)
def test_every_arm_bounds_what_its_head_gives_and_nothing_else(architecture):
    plain, bounded = models(architecture, None), models(architecture, 2.0)
    for arm, model in bounded.items():
        images = batch(model)
        (mean, raw), (same, log_variance) = plain[arm].encode(images), model.encode(images)
        assert raw.abs().max() > 2
        assert torch.equal(mean, same), arm
        assert torch.equal(log_variance, 2 * torch.tanh(raw / 2)), arm


@pytest.mark.parametrize("architecture", SMALL_LAYOUTS)
@pytest.mark.parametrize("arm", FOUR)
def test_without_a_bound_the_encoder_returns_what_its_head_gives(arm, architecture):
    model, given = models(architecture, None)[arm], []
    model.encoder.log_variance.register_forward_hook(lambda _, __, output: given.append(output))
    _, log_variance = model.encode(batch(model))
    assert log_variance is given[0]


@pytest.mark.parametrize("arm", FOUR)
@pytest.mark.parametrize("value", EXTREMES)
def test_the_kl_and_the_gradients_are_finite_whatever_the_head_gives(arm, value):
    model = models("mlp", 10.0)[arm]
    with torch.no_grad():
        model.encoder.log_variance.bias.fill_(value)
    images = batch(model)
    mean, log_variance = model.encode(images)
    found = kl_divergence(mean, log_variance)
    sign = math.copysign(1, value)
    wanted = 0.5 * (mean.double().square() + math.exp(10 * sign) - 1 - 10 * sign)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=0)
    loss, _ = elbo_loss(model, images, torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(2)))
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    plain = models("mlp", None)[arm]
    with torch.no_grad():
        plain.encoder.log_variance.bias.fill_(value)
    unbounded = kl_divergence(*plain.encode(images)).sum()
    assert bool(unbounded.isfinite()) == (value in (-1e4, -1e30))


@pytest.mark.parametrize("arm", FOUR)
def test_a_log_variance_of_40_diverges_without_the_bound_and_not_with_it(arm):
    """What ended runs with learned sigma (docs/notebook.md): in float32 the norm of the gradient overflows first.

    The KL has its closed form in both networks. The decoder's outputs, and with them the gradient, grow with z.
    """
    found = {}
    for bound, log_variance in ((None, 40.0), (10.0, 10 * math.tanh(4))):
        torch.manual_seed(0)
        layout = replace(SMALL_LAYOUTS["resnet"], log_variance_bound=bound)
        model = ARMS[arm].model(layout, Gaussian(0.1, learned=True))
        with torch.no_grad():
            model.encoder.log_variance.bias.fill_(40.0)  # its weights are 0 at the start
        take_step = training_step(
            model,
            build_optimizer(model, 1e-3, 0.0),
            objective="elbo",
            beta=1.0,
            gradient_clip=1000.0,
            precision="float32",
            dataset_size=6,
        )
        images = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        row = take_step(images, torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(2)))
        elbo, log_likelihood, kl, norm = row.tolist()
        assert kl == pytest.approx(1.5 * (math.exp(log_variance) - 1 - log_variance), rel=1e-3)
        assert math.isfinite(elbo)
        assert all(parameter.isfinite().all() for parameter in model.parameters())
        found[bound] = log_likelihood, norm
    assert found[None][1] == math.inf
    assert found[10.0][1] < 1e9
    longer = math.exp((40 - 10 * math.tanh(4)) / 2)  # by which z exceeds the z of the bounded network: 3.28e6
    assert found[None][0] / found[10.0][0] == pytest.approx(longer**2, rel=0.02)


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_kl_of_a_latent_is_greatest_at_the_bound(bound):
    mean = torch.tensor([0.0, 1.5, -3.0], dtype=torch.float64)[:, None]
    x = torch.cat([torch.linspace(-50, 50, 2001, dtype=torch.float64), torch.tensor([math.inf, -math.inf])])
    found = kl_divergence(mean, soft_bound(x, bound)[None])
    most = 0.5 * (math.exp(bound) - 1 - bound + mean.square())
    assert (found <= most * (1 + 1e-12)).all()
    torch.testing.assert_close(found.amax(1, keepdim=True), most, rtol=1e-12, atol=0)


def test_the_bound_holds_under_autocast():
    model = models("mlp", 5.3)["bvae"]
    with torch.no_grad():
        model.encoder.log_variance.bias.copy_(torch.tensor([60.0, -60.0, 0.5]))
    with torch.autocast("cpu", torch.bfloat16):
        assert model.encoder.log_variance(torch.rand(6, 7)).dtype == torch.bfloat16
        log_variance = model.encode(batch(model))[1]
    assert log_variance.dtype == torch.float32
    assert log_variance[:, :2].unique().tolist() == pytest.approx([-5.3, 5.3], rel=1e-6)


# --- settings, files and counts ---------------------------------------------------------------------------------------


def test_a_recipe_says_the_bound_and_nobody_fills_one_in():
    network = {"architecture": "mlp", "hidden": [16]}
    sizes = {"channels": 1, "size": 8, "latent_dim": 3}
    assert plan(network, **sizes).log_variance_bound is None
    assert plan(network | {"log_variance_bound": 4}, **sizes).log_variance_bound == 4
    plain, bounded = check(sound())["recipes"]["plain"], sound()
    assert "log_variance_bound" not in plain["network"]
    assert settings_key(training_settings(plain, "bvae")) == "1f1a32eb"
    bounded["recipes"]["plain"]["network"]["log_variance_bound"] = 4.0
    assert settings_key(training_settings(check(bounded)["recipes"]["plain"], "bvae")) != "1f1a32eb"


@pytest.mark.parametrize("bound", [0, -1.0, math.nan, math.inf])
def test_a_bound_that_is_not_positive_is_refused(bound):
    with pytest.raises(InputError, match="log_variance_bound: found"):
        replace(SMALL_LAYOUTS["mlp"], log_variance_bound=bound)
    config = sound()
    config["recipes"]["plain"]["network"]["log_variance_bound"] = bound
    with pytest.raises(InputError, match=r"recipes\.plain\.network\.log_variance_bound"):
        check(config)


def test_every_recipe_of_the_papers_study_has_the_bound():
    recipes = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text(encoding="utf-8"))["recipes"]
    assert {name: recipe["network"].get("log_variance_bound") for name, recipe in recipes.items()} == {
        "resnet-grey": 10,
        "resnet-cifar10": 10,
        "resnet-celeba64": 10,
    }


def test_only_a_bounded_run_records_the_bound(fake, tmp_path):
    train_into(make_run(), fake, tmp_path / "plain")
    train_into(make_run(network=NETWORKS["mlp"] | {"log_variance_bound": 4.0}), fake, tmp_path / "bounded")
    plain, bounded = (read_record(tmp_path / name / "model.safetensors") for name in ("plain", "bounded"))
    assert asdict(SMALL_LAYOUTS["mlp"]).keys() - plain["layout"].keys() == {"log_variance_bound"}
    assert bounded["layout"] == plain["layout"] | {"log_variance_bound": 4.0}
    assert load_run(tmp_path / "plain")[0].layout.log_variance_bound is None
    assert load_run(tmp_path / "bounded")[0].encoder.log_variance_bound == 4.0


def test_a_file_from_before_the_bound_is_loaded(tmp_path):
    layout = {"architecture": "mlp", "channels": 1, "size": 8, "latent_dim": 3, "feature_maps": [], "neck": 0}
    layout |= {"hidden": [10, 7], "blocks": 1, "activation": "silu", "normalization": "none"}
    model = models("mlp", None)["bvae"]
    run = asdict(Run("r", SETTINGS, "fake", "bvae", 3, 0))
    path = tmp_path / "model.safetensors"
    write_tensors(path, dict(model.named_parameters()), form=FORMAT, facts={"run": run, "layout": layout})
    loaded, record = load_run(tmp_path)
    assert loaded.layout == SMALL_LAYOUTS["mlp"]
    assert json.loads(json.dumps(record["layout"])) == layout
    images = batch(model)
    assert all(map(torch.equal, loaded.encode(images), model.encode(images)))


@pytest.mark.parametrize("architecture", SMALL_LAYOUTS)
def test_the_bound_adds_no_parameters(architecture):
    plain, bounded = models(architecture, None), models(architecture, 2.0)
    for arm in FOUR:
        assert parameter_breakdown(plain[arm]) == parameter_breakdown(bounded[arm])
        assert plain[arm].state_dict().keys() == bounded[arm].state_dict().keys()


def test_the_narrow_vae_keeps_the_bound_and_its_size():
    layout = Layout("mlp", 1, 28, 128, hidden=(400,))
    narrow = ARMS["vae_narrow"].layout
    assert narrow(replace(layout, log_variance_bound=4.0)) == replace(narrow(layout), log_variance_bound=4.0)


def test_the_bound_adds_no_multiplications(fake, monkeypatch):
    monkeypatch.setattr(protocol, "COST_ROUNDS", 1)
    monkeypatch.setattr(protocol, "COST_SECONDS", 1e-4)
    training = SETTINGS["training"] | {"batch_size": 30, "weight_decay": 0.0, "gradient_clip": 1000.0}
    macs = []
    for more in ({}, {"log_variance_bound": 4.0}):
        settings = SETTINGS | {"network": {"architecture": "mlp", "hidden": [12]} | more, "training": training}
        arms = measure_costs(Run("r", settings, "fake", "bvae", 4, 0), fake, CPU, FOUR)["arms"]
        macs.append({(arm, name): arms[arm][name] for arm in FOUR for name in ("macs_encode", "macs_decode")})
    assert macs[0] == macs[1]
    assert macs[1]["bvae", "macs_encode"] == 64 * 12 + 12 * 4 + 12 * 4
