"""Networks of several widths in one study, and VAEs of a given count of parameters."""

from copy import deepcopy

import pandas as pd
import pytest

from bvae.arms import ARMS
from bvae.arms._narrowing import count_parameters
from bvae.data import save
from bvae.errors import InputError
from bvae.networks import BVAE, VAE, plan
from bvae.report.made_from import Plan
from bvae.report.outdated import refuse_layouts
from bvae.study.config import ConfigError
from bvae.study.runs import data_path, expand_runs, run_folders
from bvae.study.widths import series_of
from bvae.system.files import read_yaml
from helpers.checkouts import ROOT, make_checkout, snakemake
from helpers.small import make_dataset
from helpers.studies import check, edited_quick, planned_jobs, sound

RESNET = {"architecture": "resnet", "width": 16, "neck": 8, "hidden": [128], "max_width": 40}


def with_widths(widths=(8, 32), **training) -> dict:
    config = sound()
    config["blocks"][0]["widths"] = list(widths)
    config["recipes"]["plain"]["network"]["hidden"] = [16, 6]
    config["recipes"]["plain"]["training"] |= training
    return config


# --- widths ----------------------------------------------------------------------------------------------------------


def test_a_block_of_widths_means_the_same_runs_as_its_recipes_written_out():
    rates = {8: 0.004, 16: 0.001, 32: dict.fromkeys(("bvae", "bvae_gain", "vae_narrow"), 0.001) | {"vae": 0.002}}
    written = sound()
    plain = written["recipes"].pop("plain")
    for width, hidden in ((8, [8, 3]), (16, [16, 6]), (32, [32, 12])):
        recipe = written["recipes"][f"plain-w{width}"] = deepcopy(plain)
        recipe["network"]["hidden"] = hidden
        recipe["training"]["learning_rate"] = rates[width]
    written["blocks"][0]["recipes"] = list(written["recipes"])
    assert check(with_widths((8, 16, 32), learning_rate_at={"w8": rates[8], "w32": rates[32]})) == check(written)
    assert len(run_folders(check(written))) == 12


def test_all_sizes_of_a_network_change_in_proportion():
    config = with_widths([8, 16, 48])
    config["recipes"]["plain"]["network"] = RESNET
    found = {name: recipe["network"] for name, recipe in check(config)["recipes"].items()}
    sizes = {name: (of["width"], of["neck"], of["hidden"], of["max_width"]) for name, of in found.items()}
    assert sizes == {"plain-w8": (8, 4, [64], 20), "plain-w16": (16, 8, [128], 40), "plain-w48": (48, 24, [384], 120)}


def test_a_recipe_can_be_used_with_widths_and_without():
    config = with_widths()
    config["blocks"].append(sound()["blocks"][0])
    assert check(config)["recipes"].keys() == {"plain", "plain-w8", "plain-w32"}


def test_a_block_that_yaml_repeats_is_told_as_such():
    config = with_widths()
    config["blocks"].append(config["blocks"][0])  # an alias: one object
    with pytest.raises(ConfigError, match=r"blocks\[1\]: all of its runs are in the blocks before it"):
        check(config)


def edited(edit) -> dict:
    config = with_widths()
    edit(config)
    return config


def rates(value):
    return lambda config: config["recipes"]["plain"]["training"].update(learning_rate_at=value)


RATES = "recipes.plain.training.learning_rate_at"
FAULTS = {
    "a width too many": (rates({"w8": 0.1, "w32": 0.1, "w9": 0.1}), f"{RATES}: w9, expected one of w8, w32"),
    "no text": (rates({8: 0.1}), f"{RATES}: 8, expected one of w8, w32"),
    "a width beyond the limit": (
        lambda config: (
            config["recipes"]["plain"].update(network=dict(RESNET)),
            config["blocks"][0].update(widths=[5000]),
        ),
        "recipes.plain-w5000.network.width: 5000, wanted at most 4096",
    ),
    "a number as text": (rates({"8": 0.1}), f"{RATES}: expected w and a width, as w256, got '8'"),
    "a misspelt arm": (rates({"w8": {"vea": 0.1}}), f"{RATES}.w8: 'vea' is not known. Did you mean 'vae'?"),
    "a rate of nothing": (rates({"w8": 0, "w32": 0.1}), f"{RATES}.w8: 0, wanted more than 0"),
    "an arm without a rate": (
        rates({"w8": {"vae": 0.1}, "w32": 0.1}),
        "recipes.plain-w8.training.learning_rate: 'bvae' is missing",
    ),
    "nothing to widen": (
        lambda config: config["recipes"]["plain"]["network"].update(hidden=[]),
        "blocks[0].widths: recipe plain has no width to start from",
    ),
    "a name that is taken": (
        lambda config: config["recipes"].update({"plain-w8": config["recipes"]["plain"]}),
        "recipes.plain-w8: is what recipe plain is called at width 8",
    ),
    "a name that is too long": (
        lambda config: (
            config["recipes"].update({"p" * 62: config["recipes"].pop("plain")}),
            config["blocks"][0].update(recipes=["p" * 62]),
        ),
        f"recipes: '{'p' * 62}-w8' is not a name",
    ),
    "rates of widths without widths": (
        lambda config: (rates({"w8": 0.1, "w32": 0.1})(config), config["blocks"].append(sound()["blocks"][0])),
        f"{RATES}: only blocks with widths use it",
    ),
    "no widths": (lambda config: config["blocks"][0].update(widths=[]), "blocks[0].widths: is empty"),
    "no number": (lambda config: config["blocks"][0].update(widths=["w8"]), "blocks[0].widths[0]: expected integer"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told(name):
    edit, message = FAULTS[name]
    with pytest.raises(ConfigError) as caught:
        check(edited(edit))
    assert message in str(caught.value)


# --- VAEs of a given count -------------------------------------------------------------------------------------------

COUNTS = {  # of the scaling study's network at width 1,024, by hand for none of these: sums of their layers' sizes
    "vae_narrow": ((615, 308), 1_466_164),
    "vae_s90": ((667, 336), 1_628_156),
    "vae_s75": ((770, 385), 1_953_760),
    "vae_s60": ((912, 455), 2_441_164),
    "vae": ((1024, 512), 2_858_000),
}


def mlp_parameters(first: int, second: int, *, pixels: int = 784, latents: int = 128) -> int:
    """Of a VAE with a gain and a bias for each hidden unit of each direction: both sets of weights, head, biases."""
    weights = pixels * first + first * second + second * latents
    head = second * latents + latents
    return 2 * weights + head + 2 * 2 * (first + second) + latents + pixels


@pytest.mark.parametrize("arm", COUNTS)
def test_the_counts_of_the_scaling_study(arm):
    network = {"architecture": "mlp", "hidden": [1024, 512], "normalization": "gain", "log_variance_bound": 10}
    layout = plan(network, channels=1, size=28, latent_dim=128)
    hidden, parameters = COUNTS[arm]
    found = ARMS[arm].layout(layout)
    assert (found.hidden, count_parameters(VAE, found)) == (hidden, parameters) == (hidden, mlp_parameters(*hidden))
    if arm.startswith("vae_s"):
        assert count_parameters(BVAE, layout) / parameters == pytest.approx(int(arm[5:]) / 100, rel=0.001)


@pytest.mark.parametrize("hidden", [[4], [400]])
def test_a_count_that_cannot_be_met_is_refused(hidden):
    """The steps of one unit are too coarse; and with 200 latents on 64 pixels the matched VAE is too small."""
    layout = plan({"architecture": "mlp", "hidden": hidden}, channels=1, size=8, latent_dim=200)
    with pytest.raises(InputError, match=r"vae_s60: the nearest VAE has [\d,]+ parameters, expected [\d,]+"):
        ARMS["vae_s60"].layout(layout)


def test_the_matched_vae_under_another_name_is_refused():
    """Of a VAE of 41,408 parameters this BVAE has 60.4 %, within 1 % of 60."""
    layout = plan({"architecture": "mlp", "hidden": [128]}, channels=1, size=8, latent_dim=64)
    with pytest.raises(InputError, match="vae_s60: the VAE of which .* is the matched VAE itself"):
        ARMS["vae_s60"].layout(layout)


def test_it_is_refused_before_the_first_job(tmp_path):
    config = sound()
    config["blocks"][0] |= {"arms": ["vae_s60"], "latent_dims": [200]}
    study = check(config)
    refuse_layouts(Plan(study, tmp_path), {})  # its data set is not there: its size is not known
    with pytest.raises(InputError, match="recipe plain on digits: vae_s60: the nearest VAE has"):
        refuse_layouts(Plan(study, tmp_path), {"digits": [1, 8]})
    (tmp_path / "resources/data").mkdir(parents=True)
    save(make_dataset(20, 10), tmp_path / data_path("digits"))
    with pytest.raises(InputError, match="recipe plain on digits: vae_s60: the nearest VAE has"):
        refuse_layouts(Plan(study, tmp_path), {"digits": [3, 32]})  # the file that is there counts
    config["blocks"][0] |= {"arms": ["vae_s80"], "latent_dims": [8]}
    config["recipes"]["plain"]["network"]["hidden"] = [128, 64]
    refuse_layouts(Plan(check(config), tmp_path), {})


def test_snakemake_refuses_it_before_the_data_set_is_there(plan):
    """As a published data set has its shape in workflow/datasets.yaml."""

    def too_narrow(config: dict) -> None:
        config["blocks"][0]["arms"].append("vae_s60")
        config["recipes"]["mlp-quick"]["network"]["hidden"] = [4]

    done = snakemake(plan, "-n", "--configfile", edited_quick(plan, too_narrow))
    assert done.returncode == 1 and "vae_s60: the nearest VAE has" in done.stdout
    assert not (plan / "resources").exists()


def test_the_shapes_of_published_data_sets_are_those_of_the_runs():
    shapes = {name: entry["shape"] for name, entry in read_yaml(ROOT / "workflow/datasets.yaml").items()}
    seen = set()
    for path in (ROOT / "results/published").glob("*/tables/runs.csv"):
        columns = pd.read_csv(path)[["dataset", "layout.channels", "layout.size"]].drop_duplicates()
        for name, *shape in columns.itertuples(index=False):
            assert shapes[name] == shape
            seen.add(name)
    assert seen >= {"mnist", "fashion_mnist", "cifar10_jpeg"}


# --- the studies for a GPU -------------------------------------------------------------------------------------------

FOR_GPU = ["scaling_mnist_gpu", "scaling_fashion_gpu"]


def shipped(name: str) -> dict:
    return check(read_yaml(ROOT / f"config/{name}.yaml"))


@pytest.mark.parametrize("name", FOR_GPU)
def test_the_studies_for_a_gpu_ask_for_what_was_planned(name):
    """Five widths, six sizes of VAE and twelve seeds, three widths for 90 epochs too; and every VAE can be narrowed."""
    study = shipped(name)
    runs = expand_runs(study)
    assert len(runs) == (5 + 3) * 8 * 12
    assert [(series.name, list(series.recipes)) for series in series_of(study)] == [
        ("mlp", [128, 256, 512, 1024, 2048]),
        ("mlp-e90", [256, 512, 1024]),
    ]
    assert {study["recipes"][run["recipe"]]["training"]["epochs"] for run in runs} == {30, 90}
    assert min(run["seed"] for run in runs) >= 200
    for recipe, arm in sorted({(run["recipe"], run["arm"]) for run in runs}):
        layout = plan(study["recipes"][recipe]["network"], channels=1, size=28, latent_dim=128)
        share = count_parameters(BVAE, layout) / count_parameters(VAE, ARMS[arm].layout(layout))
        wanted = {"vae_narrow": 1.0}.get(arm, int(arm[5:]) / 100 if arm.startswith("vae_s") else None)
        assert wanted is None or share == pytest.approx(wanted, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOR_GPU)
def test_snakemake_plans_the_studies_for_a_gpu(tmp_path, name):
    done = snakemake(make_checkout(tmp_path), "-n", "-q", "rules", "--configfile", f"config/{name}.yaml")
    jobs = planned_jobs(done.stdout)
    assert (jobs["train"], jobs["evaluate"], jobs["cost"], jobs["reference"]) == (768, 768, 8, 3), done.stdout[-3000:]
