"""The package as a library: what the README shows, without Snakemake."""

import math
import re
import shlex
import subprocess
import sys

import pandas as pd
import pytest
import torch

import bvae
from bvae.__main__ import EXAMPLES, build_parser
from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.networks import LowRankBVAE
from helpers.checkouts import ROOT, run_in

MLP = {"architecture": "mlp", "hidden": [12]}


@pytest.fixture
def model() -> bvae.BVAE:
    torch.manual_seed(0)
    return bvae.BVAE(bvae.plan(MLP, channels=1, size=8, latent_dim=3), bvae.Bernoulli()).eval()


def test_the_names_of_the_library_are_those_of_its_modules():
    from bvae import networks, objective, runs, training

    modules = (networks, objective, runs, training)
    for name in bvae.__all__:
        assert getattr(bvae, name) in [getattr(module, name, None) for module in modules]
    with pytest.raises(AttributeError, match="module 'bvae' has no attribute 'BVEA'"):
        _ = bvae.BVEA


def test_torch_is_imported_with_the_first_name_that_needs_it():
    script = "import sys, bvae; assert 'torch' not in sys.modules; bvae.BVAE; assert 'torch' in sys.modules"
    script += "; assert 'snakemake' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_samples_are_the_decoded_prior(model):
    drawn = model.sample(5, generator=torch.Generator().manual_seed(1))
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawn, torch.sigmoid(model.decode(z)))
    assert not drawn.requires_grad


def test_an_interpolation_goes_from_one_reconstruction_to_the_other(model):
    first, second = torch.rand(2, 4, 1, 8, 8).unbind()
    way = model.interpolate(first, second, steps=5)
    assert way.shape == (4, 5, 1, 8, 8)
    means = [model.encode(images)[0] for images in (first, second)]
    for step, z in [(0, means[0]), (2, (means[0] + means[1]) / 2), (4, means[1])]:
        torch.testing.assert_close(way[:, step], model.decode_mean(z))


def test_the_lines_of_the_readme_train_a_bvae():
    """Its reconstructions of the digits are far nearer than the mean image; its shapes are those of the comments."""
    [lines] = re.findall(r"```python\n(import .*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(lines.splitlines()) <= 12
    torch.manual_seed(0)
    found: dict = {}
    exec(lines, found)
    for name, text in re.findall(r"^(\w+)(?:, \w+)? = .*?# .*?(\(\d[\d, ]*\))", lines, re.MULTILINE):
        assert found[name].shape == eval(text)
    digits, pictures = found["digits"], found["pictures"]
    errors = [(digits - shown).square().mean().item() for shown in (pictures, digits.mean(0))]
    assert errors[0] < 0.5 * errors[1]


def test_the_lines_of_the_readme_load_a_published_model(monkeypatch):
    """It has the parameters that are published, and reconstructs what it draws far better than the mean image does."""
    monkeypatch.chdir(ROOT)
    [lines] = re.findall(r"```python\n(from bvae import load_run.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    torch.manual_seed(0)
    found: dict = {}
    exec(lines, found)
    for name, text in re.findall(r"^(\w+)(?:, \w+)? = .*?# .*?(\(\d[\d, ]*\))", lines, re.MULTILINE):
        assert found[name].shape == eval(text)
    digits, again, path = found["digits"], found["again"], found["path"]
    errors = [(digits - shown).square().mean().item() for shown in (again, digits.mean(0))]
    assert errors[0] < 0.3 * errors[1]
    torch.testing.assert_close(path[0, [0, -1]], again)
    run = found["record"]["run"]
    runs = pd.read_csv("results/published/scaling_mnist-1/tables/runs.csv")
    [row] = runs[(runs["recipe"] == "mlp-w256") & (runs["arm"] == run["arm"]) & (runs["seed"] == run["seed"])].to_dict(
        "records"
    )
    assert sum(weight.numel() for weight in found["model"].parameters()) == row["parameters"]


def steps() -> list[list[str]]:
    """Every step of the command line, those of `data` among them."""
    names = []
    for name in re.findall(r"^    (\w+)(?:  |$)", build_parser().format_help(), re.MULTILINE):
        names += [["data", "describe"]] if name == "data" else [[name]]
    return names


@pytest.mark.parametrize("step", steps(), ids=" ".join)
def test_the_help_of_a_step_ends_in_an_example_that_it_takes(step, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args([*step, "--help"])
    [example] = re.findall(r"^example:\n  python -m bvae (.*)$", capsys.readouterr().out, re.MULTILINE)
    args = shlex.split(example)
    assert args[: len(step)] == step
    assert callable(build_parser().parse_args(args).run)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("tra", "train"), ("train --dev", "--device"), ("train --device cu", "cuda"), ("status --w", "--watch")],
)
def test_the_tab_key_completes_steps_options_and_values(typed, completed, tmp_path):
    """As bash asks for it, through argcomplete."""
    line = f"bvae {typed}"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "said")}
    done = run_in(ROOT, "-m", "bvae", COMP_LINE=line, COMP_POINT=str(len(line)), **asked)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "said").read_text().strip() == completed


def test_every_step_is_found():
    assert {" ".join(step) for step in steps()} == EXAMPLES.keys()


# --- what a library is given by mistake ------------------------------------------------------------------------------

BYTES = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).repeat(6, 1, 1, 1)
PLAN = {"channels": 1, "size": 8, "latent_dim": 3}


@pytest.mark.parametrize(
    ("images", "changes", "message"),
    [
        (BYTES.float() / 255, {}, "found torch.float32"),
        (BYTES.double(), {}, "found torch.float64"),
        (BYTES.long(), {}, "found torch.int64"),
        (BYTES[:, 0], {}, r"of shape \(6, 8, 8\)"),
        (BYTES.permute(0, 2, 3, 1), {}, r"of shape \(6, 8, 8, 1\), wanted .*'n', 1, 8, 8"),
        (BYTES.repeat(1, 3, 1, 1), {}, r"of shape \(6, 3, 8, 8\)"),
        (BYTES[:0], {}, r"of shape \(0, 1, 8, 8\)"),
        (BYTES, {"precision": "float16"}, "precision: found 'float16', wanted one of float32, bfloat16"),
        (BYTES, {"precision": "auto"}, "precision: found 'auto'"),
        (BYTES, {"objective": "elob"}, "objective: found 'elob', wanted one of elbo, iwae, beta_tc"),
        (BYTES, {"warmup": 1.5}, "warmup: found 1.5"),
        (BYTES, {"warmup": -0.1}, "warmup: found -0.1"),
        (BYTES, {"epochs": 0}, "epochs: found 0"),
        (BYTES, {"batch_size": 0}, "batch_size: found 0"),
        (BYTES, {"samples": 0, "objective": "iwae"}, "samples: found 0"),
        (BYTES, {"samples": 5}, "samples: found 5 for elbo"),
        (BYTES, {"beta": 4.0, "objective": "iwae"}, "beta: found 4.0 for iwae"),
    ],
)
def test_what_cannot_be_trained_by_is_refused_and_changes_nothing(model, images, changes, message):
    before = [parameter.clone() for parameter in model.parameters()]
    settings = {"identity": ("x", 0), "epochs": 1, "batch_size": 4, "learning_rate": 1e-3} | changes
    with pytest.raises(InputError, match=message):
        bvae.train(model, images, **settings)
    assert all(map(torch.equal, before, model.parameters()))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (MLP | {"architecture": "transformer"}, "architecture: found 'transformer', wanted one of conv, mlp, resnet"),
        ({"hidden": [3]}, "architecture: found 'None'"),
        ({"architecture": "mlp"}, "no 'hidden'"),
        ({"architecture": "conv", "hidden": [], "width": 4}, "no 'neck', which conv needs"),
        (MLP | {"normalization": "instance"}, "normalization: found 'instance', wanted one of none, batch, gain"),
        (MLP | {"activation": "gelu"}, "activation: found 'gelu', wanted one of silu, relu, identity"),
        (MLP | {"activations": "relu"}, "network of mlp: found 'activations'"),
        (MLP | {"width": 8}, "network of mlp: found 'width'"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(network, message):
    with pytest.raises(InputError, match=message):
        bvae.plan(network, **PLAN)


def test_a_layout_of_unknown_names_is_refused():
    from bvae.networks import Layout

    for names in ({"architecture": "cnn"}, {"activation": "tanh"}, {"normalization": "group"}):
        with pytest.raises(InputError, match=next(iter(names.values()))):
            Layout(**{"architecture": "mlp", "channels": 1, "size": 8, "latent_dim": 3} | names)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_a_gaussian_has_a_positive_sigma(sigma):
    with pytest.raises(InputError, match="sigma: found"):
        bvae.Gaussian(sigma)


def test_an_unknown_likelihood_or_device_is_refused(tmp_path):
    from bvae.objective import build_likelihood
    from bvae.system.processors import pick_device

    with pytest.raises(InputError, match="likelihood: found 'laplace', wanted one of auto, bernoulli, gaussian"):
        build_likelihood({"name": "laplace"}, channels=1)
    with pytest.raises(InputError, match="device: found 'gpu'"):
        pick_device("gpu")
    card = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(InputError, match=f"device: found '{card}', but torch sees"):
        pick_device(card)


@pytest.mark.parametrize(
    "setting", [{"learning_rate": -1}, {"weight_decay": -1}, {"gradient_clip": 0}, {"gradient_skip": math.nan}]
)
def test_settings_that_train_nothing_are_refused(setting):
    from bvae import BVAE, Bernoulli, plan, train

    model = BVAE(plan({"architecture": "mlp", "hidden": [4]}, channels=1, size=8, latent_dim=2), Bernoulli())
    settings = {"epochs": 1, "batch_size": 4, "learning_rate": 0.001} | setting
    with pytest.raises(InputError, match=f"{next(iter(setting))}: found"):
        train(model, torch.zeros(8, 1, 8, 8, dtype=torch.uint8), identity=("digits", 0), **settings)


def test_convolutions_on_a_gpu_are_in_float32_and_repeatable(monkeypatch):
    from bvae.system.processors import pick_device

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    pick_device("cpu")
    assert torch.backends.cudnn.allow_tf32 and not torch.backends.cudnn.deterministic
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    pick_device("cuda:1")
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("network", [MLP, {"architecture": "conv", "width": 4, "neck": 2, "hidden": [5]}])
@pytest.mark.parametrize("nested", [False, True])
def test_two_sets_of_weights_are_no_bvae(network, nested):
    layout = bvae.plan(network, **PLAN)
    tied, other, untied = (kind(layout, bvae.Bernoulli()) for kind in (bvae.BVAE, bvae.BVAE, bvae.VAE))
    wrapped = [torch.nn.ModuleDict({"inner": model}) if nested else model for model in (tied, other, untied)]
    before = {name: tensor.clone() for name, tensor in wrapped[0].state_dict().items()}
    with pytest.raises(InputError, match="encoder_weights.0.weight"):
        wrapped[0].load_state_dict(wrapped[2].state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in wrapped[0].state_dict().items())
    wrapped[0].load_state_dict(wrapped[1].state_dict())
    assert all(map(torch.equal, tied.parameters(), other.parameters()))
    wrapped[2].load_state_dict(wrapped[1].state_dict())  # a VAE may start from one set
    assert torch.equal(untied.decoder_weights[0].weight, other.encoder_weights[0].weight)


def test_a_partly_tied_network_refuses_two_sets_of_what_it_shares():
    """A corrected BVAE shares its convolutions; its linear layers have their own matrices, which may be anything."""
    layout = bvae.plan({"architecture": "conv", "width": 4, "neck": 2, "hidden": [5]}, **PLAN)
    corrected, twin = (ARMS["bvae_rank4"].model(layout, bvae.Bernoulli()) for _ in range(2))
    untied = bvae.VAE(layout, bvae.Bernoulli())
    with pytest.raises(InputError, match="encoder_weights.0.weight"):
        corrected.load_state_dict(untied.state_dict(), strict=False)
    state = {name: tensor.clone() for name, tensor in twin.state_dict().items()}
    corrected.load_state_dict(state)
    assert all(map(torch.equal, corrected.parameters(), twin.parameters()))
    state["decoder_weights.0.weight"] += 1
    with pytest.raises(InputError, match="decoder_weights.0.weight"):
        corrected.load_state_dict(state)


@pytest.mark.parametrize("rank", [-1, 1.5, "4", None, True])
def test_a_rank_is_a_whole_number(rank):
    with pytest.raises(InputError, match="rank"):
        LowRankBVAE(bvae.plan(MLP, **PLAN), bvae.Bernoulli(), rank=rank)


def test_a_bvae_takes_its_own_state_whatever_became_of_it(model):
    with torch.no_grad():
        model.encoder_weights[0].weight[0, 0] = float("nan")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert not any(model.load_state_dict(state))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_pictures_come_in_the_precision_of_the_model(model, dtype):
    wanted = model.sample(4, generator=torch.Generator().manual_seed(2))
    drawn = model.to(dtype).sample(4, generator=torch.Generator().manual_seed(2))
    assert drawn.dtype == dtype
    torch.testing.assert_close(drawn.float(), wanted, rtol=0, atol=1e-6 if dtype == torch.float64 else 0.03)
    first, second = torch.rand(2, 4, 1, 8, 8).unbind()
    assert model.interpolate(first, second, steps=3).dtype == dtype


@pytest.mark.parametrize(
    ("images", "message"),
    [(BYTES, "found torch.uint8"), (BYTES[:, 0].float(), "6, 8, 8"), (BYTES.float().permute(0, 2, 3, 1), "6, 8, 8, 1")],
)
def test_images_that_are_no_floats_of_the_shape_are_not_encoded(model, images, message):
    with pytest.raises(InputError, match=message):
        model.encode(images)


@pytest.mark.parametrize("scale", [255.0, -1.0, float("nan")])
def test_pixels_beyond_their_range_are_not_interpolated(model, scale):
    good = torch.full((1, 1, 8, 8), 0.5)
    for pair in ((good, scale * good), (scale * good, good)):
        with pytest.raises(InputError, match="wanted \\[0, 1\\]"):
            model.interpolate(*pair, steps=2)
