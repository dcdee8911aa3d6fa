"""The package as a library: what the README shows, without Snakemake."""

import re
import shlex
import subprocess
import sys

import pytest
import torch

import bvae
from bvae.__main__ import build_parser
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
    [lines] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(lines.splitlines()) <= 14
    torch.manual_seed(0)
    found: dict = {}
    exec(lines, found)
    for name, text in re.findall(r"^(\w+)(?:, \w+)? = .*?# .*?(\(\d[\d, ]*\))", lines, re.MULTILINE):
        assert found[name].shape == eval(text)
    digits, pictures = found["digits"], found["pictures"]
    errors = [(digits - shown).square().mean().item() for shown in (pictures, digits.mean(0))]
    assert errors[0] < 0.5 * errors[1]


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
    assert len(steps()) >= 18
