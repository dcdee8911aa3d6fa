"""Studies: every fault named at once with its remedy, defaults, and the runs that a study means."""

import copy
import math
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from bvae.__main__ import main
from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.networks import ACTIVATIONS, NORMALIZATIONS
from bvae.study.claims import expand_claims
from bvae.study.config import (
    ConfigError,
    check_files,
    check_interpreter,
    check_root,
    check_study,
    check_tuning,
    known_datasets,
    load_study,
)
from bvae.study.runs import expand_runs, results_paths, run_folders, run_name, training_settings
from bvae.system.files import read_json, read_yaml
from bvae.system.processors import PRECISIONS
from bvae.training import OBJECTIVES
from helpers.checkouts import ROOT
from helpers.studies import DATASETS, FOUR, RECIPE, SCHEMA, STUDIES, check, sound


def faults(config: object) -> list[str]:
    """The faults that a study is refused for, one string each."""
    with pytest.raises(ConfigError) as refusal:
        check(config)
    first, *lines = str(refusal.value).splitlines()
    count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
    assert first == f"The configuration has {count}:"
    assert all(line.startswith("  - ") and len(line) <= 304 for line in lines)
    return [line.removeprefix("  - ") for line in lines]


PLAIN = sound()["recipes"]["plain"]


def change(path: str, value: object) -> dict:
    """The sound study with the entry at a dotted path set; "-" takes it out."""
    config = sound()
    *parents, last = path.split(".")
    entry = config
    for key in parents:
        entry = entry[int(key) if isinstance(entry, list) else key]
    last = int(last) if isinstance(entry, list) else last
    if value == "-":
        del entry[last]
    else:
        entry[last] = value
    return config


# --- faults ---------------------------------------------------------------------------------------------------------

NETWORK, TRAINING = "recipes.plain.network", "recipes.plain.training"
FAULTS = {
    "unknown key": ("blocks.0.latent_dim", [8], "blocks[0]: unknown key 'latent_dim'. Did you mean 'latent_dims'?"),
    "unknown key at the top": ("blokcs", [], "top level: unknown key 'blokcs'. Did you mean 'blocks'?"),
    "unknown key, nothing near": (
        "recipes.plain.objective",
        {"xyz": 1},
        "unknown key 'xyz'. Known: beta, name, samples.",
    ),
    "unknown key deep": (f"{TRAINING}.epoch", 1, f"{TRAINING}: unknown key 'epoch'. Did you mean 'epochs'?"),
    "unknown arm": ("blocks.0.arms", ["bvae", "vea"], "blocks[0].arms[1]: 'vea' is not known. Did you mean 'vae'?"),
    "unknown data set": (
        "blocks.0.datasets",
        ["digitz"],
        "blocks[0].datasets[0]: no 'digitz' in workflow/datasets.yaml or rules/datasets/. Did you mean 'digits'?",
    ),
    "unknown architecture": (
        f"{NETWORK}.architecture",
        "resnett",
        f"{NETWORK}.architecture: 'resnett' is not known. Did you mean 'resnet'?",
    ),
    "unknown features": ("features", ["inceptoin"], "features[0]: 'inceptoin' is not known. Did you mean 'inception'?"),
    "recipe not defined": (
        "blocks.0.recipes",
        ["plain", "plian"],
        "blocks[0].recipes[1]: no 'plian' in 'recipes' of this study. Did you mean 'plain'?",
    ),
    "recipe not used": ("recipes.spare", sound()["recipes"]["plain"], "recipes.spare: no block uses it"),
    "number as text": (
        f"{TRAINING}.learning_rate",
        "1e-3",
        f"{TRAINING}.learning_rate: expected number or object, got '1e-3' (YAML reads 1e-3 as text: write 1.0e-3",
    ),
    "a number with a comma": (
        f"{TRAINING}.learning_rate",
        "0,001",
        f"{TRAINING}.learning_rate: expected number or object, got '0,001'",
    ),
    "number of an arm as text": (
        f"{TRAINING}.learning_rate",
        {"bvae": "1e-3", "bvae_gain": 0.001, "vae": 0.001, "vae_narrow": 0.001},
        f"{TRAINING}.learning_rate.bvae: expected number, got '1e-3' (YAML reads 1e-3 as text: write 1.0e-3 or 0.001)",
    ),
    "an arm without a rate": (
        f"{TRAINING}.learning_rate",
        {"bvae": 0.001, "bvae_gain": 0.001, "vae": 0.001},
        f"{TRAINING}.learning_rate: 'vae_narrow' is missing",
    ),
    "boolean for a number": (f"{TRAINING}.epochs", True, f"{TRAINING}.epochs: expected integer, got True"),
    "fraction for an integer": ("blocks.0.seeds", [0.5], "blocks[0].seeds[0]: expected integer, got 0.5"),
    "one value for a list": ("blocks.0.seeds", 3, "blocks[0].seeds: expected array, got 3"),
    "nothing for a list": ("blocks.0.seeds", None, "blocks[0].seeds: expected array, got None"),
    "empty list": ("blocks.0.seeds", [], "blocks[0].seeds: is empty; it needs at least 1"),
    "no blocks": ("blocks", [], "blocks: is empty; it needs at least 1"),
    "duplicates": ("blocks.0.seeds", [1, 2, 1], "blocks[0].seeds: an entry is given twice in [1, 2, 1]"),
    "missing key": ("blocks.0.seeds", "-", "blocks[0]: 'seeds' is missing"),
    "missing study": ("study", "-", "top level: 'study' is missing"),
    "name with a slash": ("study", "a/b", "study: 'a/b' is not a name"),
    "a rate of an unknown arm": (
        f"{TRAINING}.learning_rate",
        dict.fromkeys((*ARMS, "vea"), 0.001),
        f"{TRAINING}.learning_rate: 'vea' is not known. Did you mean 'vae'?",
    ),
    "negative": (f"{TRAINING}.learning_rate", -0.1, f"{TRAINING}.learning_rate: -0.1"),
    "seed too large": ("blocks.0.seeds", [2**32], "blocks[0].seeds[0]: 4294967296"),
    "a name with a line break": ("study", "small\n", "study: 'small\\n' is not a name"),
    "a name that is too long for a file": ("study", "s" * 65, f"study: '{'s' * 65}' is not a name"),
    "a title of two lines": ("title", "one\ntwo", "title: 'one\\ntwo' has a line break"),
    "a title that is a number": ("title", 3, "title: expected string, got 3"),
    "a long title": ("title", "t" * 201, "has 201 characters, wanted at most 200"),
    "a seed for figures that no run has": (
        "figure_seed",
        5,
        "figure_seed: 5, but plain/digits/bvae-z8 has the seeds 0. Wanted one that all have: 0",
    ),
    "a block that adds no run": (
        "blocks",
        [sound()["blocks"][0], sound()["blocks"][0] | {"arms": ["vae"]}],
        "blocks[1]: all of its runs are in the blocks before it",
    ),
    "a width above the widest": (
        NETWORK,
        {"architecture": "conv", "hidden": [], "width": 8, "neck": 4, "max_width": 6},
        f"{NETWORK}.max_width: 6, wanted at least the width, 8",
    ),
    "width in an mlp": (f"{NETWORK}.width", 8, f"{NETWORK}: 'width' means nothing in architecture mlp; remove it"),
    "blocks in a conv": (
        NETWORK,
        {"architecture": "conv", "hidden": [], "width": 8, "neck": 4, "blocks": 2},
        f"{NETWORK}: 'blocks' means nothing in architecture conv; remove it, or use resnet",
    ),
    "no neck in a conv": (
        NETWORK,
        {"architecture": "conv", "hidden": [], "width": 8},
        f"{NETWORK}: 'neck' is missing (conv needs it)",
    ),
    "no width in a resnet": (
        NETWORK,
        {"architecture": "resnet", "hidden": [], "neck": 8},
        f"{NETWORK}: 'width' is missing (resnet needs it)",
    ),
    "batch normalisation of one image": (
        "recipes.plain",
        {
            "network": {"architecture": "resnet", "hidden": [], "width": 4, "neck": 2, "normalization": "batch"},
            "training": {"epochs": 1, "batch_size": 1, "learning_rate": 0.1},
        },
        f"{TRAINING}.batch_size: 1, and 'normalization: batch'",
    ),
    "total correlation of one image": (
        "recipes.plain",
        {
            "network": {"architecture": "mlp", "hidden": [4]},
            "objective": {"name": "beta_tc", "beta": 6},
            "training": {"epochs": 1, "batch_size": 1, "learning_rate": 0.1},
        },
        f"{TRAINING}.batch_size: 1, and 'beta_tc'",
    ),
    "sigma of a bernoulli": (
        "recipes.plain.likelihood",
        {"name": "bernoulli", "sigma": 0.1},
        "recipes.plain.likelihood: 'sigma' belongs to",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_place_and_remedy(name):
    path, value, message = FAULTS[name]
    [fault] = faults(change(path, value))
    assert message in fault


def test_every_fault_is_named_at_once():
    config = {
        "study": "Bad Name",
        "figure_sed": 0,
        "features": [],
        "blocks": [
            {
                "datasets": ["mnits", "digits"],
                "arms": ["bvae", "bvae"],
                "recipes": ["plain", "missing"],
                "latent_dims": [8, 0],
                "seed": [0],
            }
        ],
        "recipes": {
            "plain": {
                "network": {"architecture": "cnn", "hidden": [16]},
                "training": {"epochs": 2.5, "batch_size": 64, "learning_rate": "1e-3"},
            }
        },
    }
    found = faults(config)
    wanted = [
        "study: 'Bad Name' is not a name",
        "top level: unknown key 'figure_sed'. Did you mean 'figure_seed'?",
        "features: is empty",
        "blocks[0].datasets[0]: no 'mnits' in workflow/datasets.yaml or rules/datasets/. Did you mean 'mnist'?",
        "blocks[0].arms: an entry is given twice",
        "blocks[0].recipes[1]: no 'missing' in 'recipes'",
        "blocks[0].latent_dims[1]: 0",
        "blocks[0]: unknown key 'seed'. Did you mean 'seeds'?",
        "blocks[0]: 'seeds' is missing",
        "recipes.plain.network.architecture: 'cnn' is not known",
        "recipes.plain.training.epochs: expected integer, got 2.5",
        "recipes.plain.training.learning_rate: expected number or object, got '1e-3'",
    ]
    assert len(found) == len(wanted)
    for text in wanted:
        assert sum(text in fault for fault in found) == 1, text


def test_two_missing_keys_are_two_faults():
    config = sound()
    del config["blocks"], config["study"]
    assert sorted(faults(config)) == ["top level: 'blocks' is missing", "top level: 'study' is missing"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("blocks.0.recipes", ["lost"]),
        ("blocks.0.datasets", ["x" * 10_000]),
        ("recipes", {f"recipe-{i:03}-{'r' * 50}": PLAIN for i in range(300)}),
        ("k" * 10_000, 1),
        ("title", "t" * 10_000),
        ("blocks.0.seeds", [0] * 10_000),
    ],
    ids=["one of 300 recipes", "name", "300 recipes without a block", "key", "text", "list"],
)
def test_a_message_stays_short(path, value):
    config = change(path, value) if path != "blocks.0.recipes" else sound()
    if path == "blocks.0.recipes":
        config["recipes"] |= {f"{i:03}": PLAIN for i in range(300)}
        config["blocks"][0]["recipes"] = [*config["recipes"], "something-else"]
    with pytest.raises(ConfigError) as refusal:
        check(config)
    assert len(str(refusal.value)) < 22 * 304
    assert max(map(len, str(refusal.value).splitlines())) <= 304


def test_of_many_faults_the_first_are_shown_and_all_are_counted():
    config = sound() | {f"key{i}": i for i in range(55)}
    with pytest.raises(ConfigError) as refusal:
        check(config)
    first, *lines, last = str(refusal.value).splitlines()
    assert (first, len(lines), last) == ("The configuration has 55 faults:", 20, "  and 35 more")


@pytest.mark.parametrize(
    ("seeds", "wanted", "shown"),
    [
        (
            {"bvae": [0, 1, 2], "vae": [0, 1]},
            2,
            "plain/digits/vae-z8 has the seeds 0, 1. Wanted one that all have: 0, 1",
        ),
        ({"bvae": [3], "vae": [4]}, 3, "plain/digits/vae-z8 has the seeds 4. Wanted blocks with a seed in common"),
    ],
)
def test_figures_show_the_seed_that_was_asked_for_of_every_arm(seeds, wanted, shown):
    config = sound()
    [block] = config["blocks"]
    config["blocks"] = [block | {"arms": [arm], "seeds": of_arm} for arm, of_arm in seeds.items()]
    [fault] = faults(config | {"figure_seed": wanted})
    assert shown in fault


def test_a_study_of_tuning_shows_no_seed():
    [fault] = faults(sound() | {"tuning": True, "figure_seed": 0})
    assert fault.startswith("figure_seed: means nothing in a study of tuning")


def test_published_models_are_of_runs_of_every_arm():
    config = sound()
    [block] = config["blocks"]
    config["blocks"] = [block | {"arms": ["bvae"], "seeds": [0, 1]}, block | {"arms": ["vae"], "seeds": [1, 2]}]
    assert check(config | {"published_models": {"recipe": "plain", "seed": 1}})["published_models"]["seed"] == 1
    [fault] = faults(config | {"published_models": {"recipe": "plain", "seed": 2}})
    assert fault.startswith("published_models.seed: 2, but plain/digits/bvae-z8 has the seeds 0, 1. Wanted")
    [fault] = faults(config | {"published_models": {"recipe": "mlp", "seed": 1}})
    assert fault.startswith("published_models.recipe: no run is of 'mlp', expected one of plain")
    config["blocks"][1] = block | {"datasets": ["mnist"], "arms": ["vae"], "seeds": [2]}
    assert check(config | {"published_models": {"recipe": "plain", "dataset": "digits", "seed": 0}})
    [fault] = faults(config | {"published_models": {"recipe": "plain", "dataset": "cifar10", "seed": 0}})
    assert fault.startswith("published_models.dataset: no run is of 'cifar10', expected one of digits, mnist")


def test_misfits_of_several_recipes_are_named_at_once():
    config = sound()
    config["blocks"][0]["recipes"] = ["plain", "other"]
    other = copy.deepcopy(config["recipes"]["plain"])
    other["network"] = {"architecture": "conv", "hidden": []}
    config["recipes"]["other"] = other
    config["recipes"]["plain"]["network"] |= {"neck": 3, "max_width": 8}
    assert len(faults(config)) == 4  # two keys too many in the mlp, width and neck missing in the conv


def test_a_batch_of_one_image_is_refused_where_it_needs_others_only():
    for network in ({"normalization": "gain"}, {}):
        config = change(f"{TRAINING}.batch_size", 1)
        config["recipes"]["plain"]["network"] |= network
        assert check(config)["recipes"]["plain"]["training"]["batch_size"] == 1


@pytest.mark.parametrize("warmup", [0, 1, 0.5])
def test_a_warmup_may_be_none_or_all(warmup):
    assert check(change(f"{TRAINING}.warmup", warmup))


def test_a_study_that_tunes_is_judged_on_held_out_images():
    study = check(change("blocks.0.datasets", ["mnist_validation", "digits", "kmnist"]) | {"tuning": True})
    with pytest.raises(ConfigError, match="'digits', 'kmnist'"):
        check_tuning(study, {"mnist_validation"})
    check_tuning(study, ["mnist_validation", "digits", "kmnist"])
    check_tuning(study | {"tuning": False}, ())


@pytest.mark.parametrize("config", [None, [], "study", 3, [{"study": "small"}]])
def test_a_study_that_is_no_mapping_is_refused(config):
    [fault] = faults(config)
    assert fault.startswith("top level: expected object")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("blocks", {"datasets": ["digits"]}),
        ("blocks.0", "digits"),
        ("blocks.0.datasets", [["digits"]]),
        ("blocks.0.recipes", [{"plain": 1}]),
        ("recipes", ["plain"]),
        ("recipes", None),
        ("recipes.plain", None),
        (NETWORK, "mlp"),
    ],
)
def test_a_wrong_shape_is_a_config_error_and_never_another(path, value):
    assert faults(change(path, value))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("path", [f"{TRAINING}.learning_rate", "recipes.plain.objective"])
def test_numbers_must_be_finite(path, value):
    """YAML's .nan and .inf are numbers to a schema; a run trained by them is lost."""
    assert faults(change(path, {"beta": value} if path.endswith("objective") else value))


@pytest.mark.parametrize("path", ["blocks.0.seeds", "blocks.0.latent_dims", f"{TRAINING}.epochs", f"{NETWORK}.hidden"])
def test_a_whole_number_written_with_a_point_is_refused(path):
    """JSON Schema takes 8.0 for an integer; range(8.0) and the path ...-z8.0-seed0 do not."""
    with pytest.raises(ConfigError, match="expected integer, got 8.0"):
        check(change(path, 8.0 if path.endswith("epochs") else [8.0]))


# --- defaults -------------------------------------------------------------------------------------------------------


def test_defaults_are_filled_in_at_every_depth():
    assert check(sound()) == {
        "study": "small",
        "version": 1,
        "title": "",
        "features": ["classifier"],
        "tuning": False,
        "blocks": [
            {
                "datasets": ["digits"],
                "arms": ["bvae", "bvae_gain", "vae", "vae_narrow"],
                "recipes": ["plain"],
                "latent_dims": [8],
                "seeds": [0],
            }
        ],
        "recipes": {
            "plain": {
                "network": {"architecture": "mlp", "hidden": [16], "activation": "silu", "normalization": "none"},
                "objective": {"name": "elbo", "beta": 1},
                "likelihood": {"name": "auto"},
                "importance": {"samples": [1, 10, 100, 1000, 5000], "images": 100},
                "precision": "auto",
                "threads": 2,
                "training": {
                    "epochs": 2,
                    "batch_size": 64,
                    "learning_rate": 0.001,
                    "warmup": 0.1,
                    "weight_decay": 0.0,
                    "gradient_clip": 1000.0,
                },
            }
        },
    }


def test_what_is_given_stands():
    config = sound()
    config["recipes"]["plain"] |= {"objective": {"beta": 4}, "precision": "float32", "threads": 7}
    config["blocks"][0]["arms"] = ["vae"]
    checked = check(config)
    assert checked["recipes"]["plain"]["objective"] == {"name": "elbo", "beta": 4}
    assert (checked["recipes"]["plain"]["precision"], checked["recipes"]["plain"]["threads"]) == ("float32", 7)
    assert checked["blocks"][0]["arms"] == ["vae"]


def test_checking_changes_neither_the_study_nor_the_schema():
    config, schema = sound(), copy.deepcopy(SCHEMA)
    checked = check(config)
    assert config == sound()
    checked["blocks"][0]["arms"].append("more")
    checked["recipes"]["plain"]["objective"]["beta"] = 9
    assert schema == SCHEMA
    assert check(sound())["blocks"][0]["arms"] == FOUR


def test_checking_twice_is_checking_once():
    assert check(check(sound())) == check(sound())


def test_every_default_passes_its_own_schema():
    def walk(schema: dict):
        if "default" in schema:
            assert list(jsonschema.Draft202012Validator(schema).iter_errors(schema["default"])) == []
        for part in [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]:
            if isinstance(part, dict):
                walk(part)

    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    walk(SCHEMA)


# --- runs -----------------------------------------------------------------------------------------------------------


def test_runs_are_the_union_of_the_products_each_once():
    config = sound()
    config["blocks"] = [
        {
            "datasets": ["digits", "mnist"],
            "arms": ["bvae", "vae"],
            "recipes": ["plain"],
            "latent_dims": [8],
            "seeds": [0, 1],
        },
        {"datasets": ["digits"], "arms": ["bvae"], "recipes": ["plain"], "latent_dims": [8, 16], "seeds": [1, 2]},
    ]
    runs = expand_runs(check(config))
    wanted = {(d, a, 8, s) for d in ("digits", "mnist") for a in ("bvae", "vae") for s in (0, 1)}
    wanted |= {("digits", "bvae", z, s) for z in (8, 16) for s in (1, 2)}
    found = [(run["dataset"], run["arm"], run["latent_dim"], run["seed"]) for run in runs]
    assert len(found) == 8 + 4 - 1  # digits, bvae, 8, 1 is in both blocks
    assert set(found) == wanted
    assert {run["recipe"] for run in runs} == {"plain"}
    assert all(set(run) == {"recipe", "dataset", "arm", "latent_dim", "seed"} for run in runs)
    assert len({run_name(run) for run in runs}) == len(set(run_folders(check(config)).values())) == len(runs)


def test_runs_of_other_settings_never_meet_and_those_of_equal_ones_do(tmp_path):
    """A folder is named by its recipe and a key of its settings; by another recipe, where the key is there already."""
    config = change("blocks.0.arms", ["bvae"])
    name = "plain/digits/bvae-z8-seed0"
    first = run_folders(check(config), tmp_path)[name]
    assert re.fullmatch(r"results/runs/plain-[0-9a-f]{8}/digits/bvae-z8-seed0", first)
    longer = copy.deepcopy(config)
    longer["recipes"]["plain"]["training"]["epochs"] = 3
    assert run_folders(check(longer), tmp_path)[name] != first
    config["recipes"]["same"] = config["recipes"]["plain"]
    config["blocks"][0]["recipes"] = ["plain", "same"]
    assert set(run_folders(check(config), tmp_path).values()) == {first}
    (tmp_path / first.replace("plain-", "other-")).mkdir(parents=True)
    assert run_folders(check(config), tmp_path)[name] == first.replace("plain-", "other-")


def test_metrics_of_other_samples_or_features_have_another_file():
    config = change("blocks.0.arms", ["bvae"])
    [first] = results_paths(check(config)).values()
    [other] = results_paths(check(config | {"features": ["classifier", "inception"]})).values()
    config["recipes"]["plain"]["importance"] = {"samples": [1]}
    [fewer] = results_paths(check(config)).values()
    assert len({first, other, fewer}) == 3
    assert len({path.rpartition("/")[0] for path in (first, other, fewer)}) == 1


def test_a_rate_of_one_arm_moves_the_runs_of_that_arm_only():
    config = change(f"{TRAINING}.learning_rate", dict.fromkeys(FOUR, 0.001))
    before = run_folders(check(config))
    config["recipes"]["plain"]["training"]["learning_rate"]["vae"] = 0.002
    after = run_folders(check(config))
    assert {name for name in before if before[name] != after[name]} == {"plain/digits/vae-z8-seed0"}


# --- what is shipped ------------------------------------------------------------------------------------------------


def test_the_papers_study_is_shipped():
    assert "paper" in [path.stem for path in STUDIES]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_is_sound(path):
    study = check(read_yaml(path))
    runs = expand_runs(study)
    products = sum(
        math.prod(len(block[key]) for key in ("datasets", "recipes", "latent_dims", "arms", "seeds"))
        for block in study["blocks"]
    )
    assert 0 < len(runs) <= products
    assert study["study"] == path.stem
    assert {run["dataset"] for run in runs} <= set(DATASETS)
    alone = {"anchor": {"vae"}, "precision": {"bvae"}, "untying": {"bvae_gain", "vae"}}
    compared = alone.get(path.stem, {"vae"} if path.stem.startswith("pilot") else {"bvae", "vae"})
    assert compared <= {run["arm"] for run in runs}


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), ("study: [", "not a YAML file"), ("", "top level: expected object, got None")],
    ids=["missing", "not YAML", "empty"],
)
def test_a_study_file_that_cannot_be_read_is_refused(tmp_path, content, message):
    path = tmp_path / "study.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        check(read_yaml(path))


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("study: s\ntitle: a\nversion: 1\ntitle: b\n", ["line 4: the key 'title' is also in line 2"]),
        (
            "recipes:\n  m: {training: {epochs: 1, warmup: 0.1, epochs: 2}}\n",
            ["line 2: the key 'epochs' is also in line 2"],
        ),
        ("blocks:\n  - seeds: [0]\n    'seeds': [1]\n", ["line 3: the key 'seeds' is also in line 2"]),
        (
            "epochs: 0o17\nhidden: [017, -0b11]\n",
            ["line 2: YAML takes '017' for 15", "line 2: YAML takes '-0b11' for -3"],
        ),
        (
            "epochs: 2:10\nimages: 60_000\n",
            ["line 1: YAML takes '2:10' for 130", "line 2: YAML takes '60_000' for 60000"],
        ),
        ("learning_rate: 1_0.5\n", ["line 1: YAML takes '1_0.5' for 10.5"]),
        ("study: no\ntuning: on\n", ["line 1: YAML takes 'no' for False", "line 2: YAML takes 'on' for True"]),
        ("study: 2026-02-03\n", ["line 1: YAML takes '2026-02-03' for datetime.date(2026, 2, 3)"]),
        ("study: 2026-02-31\n", ["line 1: YAML takes '2026-02-31' for timestamp"]),
        ("epochs: !!int '0x1F'\n", ["line 1: YAML takes '0x1F' for 31"]),
    ],
)
def test_a_line_of_a_file_that_is_not_what_it_seems_is_named(tmp_path, content, shown):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InputError) as refusal:
        read_yaml(path)
    first, *lines = str(refusal.value).splitlines()
    assert first == f"{path} has {len(shown)} fault{'s' * (len(shown) > 1)}:"
    assert all(line.startswith(f"  - {start}") for line, start in zip(lines, shown, strict=True))


def test_a_file_is_read_as_it_seems(tmp_path):
    """Quoted text, an alias, a merged key that repeats one of its own, and JSON with tabs, where 1e-3 is a number."""
    path = tmp_path / "mine"
    path.write_text("a: &a {x: 1, y: -2.5e-3}\nb: {<<: *a, x: '010'}\nc: [*a, True, ~, 0, 0.5, 1., 'yes']\n")
    a = {"x": 1, "y": -0.0025}
    assert read_yaml(path) == {"a": a, "b": a | {"x": "010"}, "c": [a, True, None, 0, 0.5, 1.0, "yes"]}
    path.write_text('{"a":\n\t1e-3}')
    assert read_yaml(path) == {"a": 0.001}
    path.write_text('{"a": {"b": 1, "b": 1}}')
    for read in (read_yaml, read_json):
        with pytest.raises(InputError, match="'b' is given twice"):
            read(path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_json_without_a_number_is_refused(tmp_path, number):
    """JSON has none, but Python's json reads them, and a mean over seeds would leave the seed out."""
    path = tmp_path / "metrics.json"
    path.write_text(f'{{"elbo": {number}}}')
    with pytest.raises(InputError, match=f"not a JSON file .{number} is no number"):
        read_json(path)


@pytest.mark.parametrize("content", ["x: *" + "y" * 10_000, "x: !" + "y" * 10_000 + " 1", "[" * 5_000])
def test_what_is_said_of_a_file_that_is_no_yaml_is_short(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match="mine.yaml: not a YAML file") as refusal:
        read_yaml(path)
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize(
    "name",
    [
        "config/claims.yaml",
        "workflow/datasets.yaml",
        "environment.yml",
        "profiles/slurm/profile.yaml",
        "results/published/mnist-1/manifest.json",
        "results/published/gpu.json",
    ],
)
def test_a_file_that_is_no_study_is_one_fault_with_its_name(monkeypatch, capsys, name):
    monkeypatch.chdir(ROOT)
    for step in ("status", "summary"):
        assert main([step, name]) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and name in said and "config/quick.yaml" in said, said
    with pytest.raises(InputError) as refusal:
        check_files([ROOT / "config/paper.yaml", ROOT / name], [ROOT / name])
    assert "\n" not in str(refusal.value) and "Add a line" not in str(refusal.value)


def test_what_another_file_is_is_told():
    said = {}
    for name in ("config/claims.yaml", "workflow/datasets.yaml", "environment.yml"):
        with pytest.raises(ConfigError) as refusal:
            load_study(ROOT / name, ROOT)
        said[name] = str(refusal.value)
    assert "--claims" in said["config/claims.yaml"]
    assert "data sets" in said["workflow/datasets.yaml"]
    assert "conda" in said["environment.yml"]


def test_several_files_are_one_study_that_one_of_them_names(tmp_path):
    """Snakemake merges all files of --configfile, and adds the paper's study where none has the key 'study'."""
    names = {"one": "study: one\n", "other": "study: other\n", "more": "version: 2\n", "paper": "study: paper\n"}
    one, other, more, paper = (tmp_path / f"{name}.yaml" for name in names)
    for path in (one, other, more, paper):
        path.write_text(names[path.stem])
    check_files([one], [one])
    check_files([one, more], [one, more])
    check_files([paper], [])
    with pytest.raises(InputError, match="more.yaml: 'study' is missing: found version"):
        check_files([more, paper], [more])
    with pytest.raises(InputError, match="one.yaml, .*other.yaml: 2 studies"):
        check_files([one, other], [one, other])


@pytest.mark.parametrize("name", ["my{set}", "my:set", "My_set", "a set", "-set", "s" * 65, "set\n"])
def test_a_data_set_whose_name_cannot_be_part_of_a_path_is_refused(tmp_path, name):
    (tmp_path / "rules/datasets").mkdir(parents=True)
    (tmp_path / "datasets.yaml").write_text("digits: {source: 'sklearn:digits'}\n")
    own = tmp_path / "rules/datasets/own.smk"
    own.touch()
    assert known_datasets(tmp_path) == ["digits", "own"]
    spoilt = own.rename(own.with_name(f"{name}.smk"))
    with pytest.raises(InputError, match="cannot name a data set"):
        known_datasets(tmp_path)
    spoilt.unlink()
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump({name: {"source": "sklearn:digits"}}))
    with pytest.raises(InputError, match="cannot name a data set"):
        known_datasets(tmp_path)
    with pytest.raises(ConfigError, match=r"blocks\[0\].datasets\[0\]: .* is not a name"):
        check_study(change("blocks.0.datasets", [name]), datasets=None)


def test_a_data_set_is_made_by_one_rule_as_its_entry_says(tmp_path):
    """Neither a file of one's own for a published name, nor a misspelt checksum, which would check nothing."""
    (tmp_path / "rules/datasets").mkdir(parents=True)
    table, own = tmp_path / "datasets.yaml", tmp_path / "rules/datasets/digits.smk"
    table.write_text("digits: {source: 'sklearn:digits', sha265: '0'}\n")
    with pytest.raises(InputError, match="digits has an unknown key 'sha265'. Did you mean 'sha256'?"):
        known_datasets(tmp_path)
    table.write_text("digits: {source: 'sklearn:digits', shape: 8}\n")
    with pytest.raises(InputError, match="digits has the shape 8"):
        known_datasets(tmp_path)
    for text in ("digits:\n", "digits: {licence: none}\n", "[digits]\n", ""):
        table.write_text(text)
        with pytest.raises(InputError, match="datasets.yaml: "):
            known_datasets(tmp_path)
    table.write_text("digits: {source: 'sklearn:digits'}\n")
    own.touch()
    with pytest.raises(InputError, match="digits.smk: 'digits' is a published data set"):
        known_datasets(tmp_path)


@pytest.mark.parametrize("path", ["/data/2026-01-01T10:00/bvae", "/home/me/{bvae}", "/home/me/{/bvae"])
def test_a_folder_of_the_benchmark_that_jobs_could_not_import_from_is_refused(path):
    check_root(Path("/home/a user/bvae benchmark ü"))
    with pytest.raises(InputError, match="Rename the folder"):
        check_root(Path(path))


@pytest.mark.parametrize("path", ["/home/a user/.venv/bin/python", "/opt/py(3)/bin/python", "/data/$x/bin/python"])
def test_jobs_of_a_cluster_need_a_python_whose_path_needs_no_quotes(path):
    check_interpreter("/home/müller/python-3.11_x/bin/python3.11")
    with pytest.raises(InputError, match="does not quote its path") as refusal:
        check_interpreter(path)
    assert str(refusal.value).startswith(path)


def test_only_the_arms_that_blocks_run_need_a_rate():
    config = change(f"{TRAINING}.learning_rate", {"vae": 0.002, "bvae": 0.001})
    config["blocks"][0]["arms"] = ["vae"]
    recipe = check(config)["recipes"]["plain"]
    assert training_settings(recipe, "vae")["training"]["learning_rate"] == 0.002
    config["blocks"].append(config["blocks"][0] | {"arms": ["bvae_gain"]})
    [fault] = faults(config)
    assert fault.startswith(f"{TRAINING}.learning_rate: 'bvae_gain' is missing")


def test_names_agree_with_what_builds_them():
    assert {*FOUR} < {*ARMS}
    assert set(ACTIVATIONS) == set(RECIPE["network"]["properties"]["activation"]["enum"])
    assert set(NORMALIZATIONS) == set(RECIPE["network"]["properties"]["normalization"]["enum"])
    assert {*PRECISIONS, "auto"} == set(RECIPE["precision"]["enum"])
    assert set(OBJECTIVES) == set(RECIPE["objective"]["properties"]["name"]["enum"])


def test_what_training_depends_on_is_all_but_the_importance_samples():
    recipe = check(sound())["recipes"]["plain"]
    for arm in FOUR:
        assert training_settings(recipe, arm) == {key: recipe[key] for key in set(RECIPE) - {"importance"}}


def test_a_rate_for_each_arm_is_the_arm_s_alone():
    """A changed rate of one arm changes the settings of that arm and no other: nothing else is retrained."""
    rates = {"bvae": 0.001, "bvae_gain": 0.002, "vae": 0.003, "vae_narrow": 0.004}
    recipe = check(change(f"{TRAINING}.learning_rate", rates))["recipes"]["plain"]
    alike = check(sound())["recipes"]["plain"]
    for arm, rate in rates.items():
        settings = training_settings(recipe, arm)
        assert settings["training"].pop("learning_rate") == rate
        expected = training_settings(alike, arm)
        assert expected["training"].pop("learning_rate") == 0.001
        assert settings == expected
    assert recipe["training"]["learning_rate"] == rates  # the study is left as it is


def test_training_settings_are_the_arguments_of_train():
    """A recipe's `training` is passed to train() by name: a key that it lacks, or another default, would be a fault."""
    import inspect

    from bvae.training import train

    parameters = inspect.signature(train).parameters
    properties = dict(RECIPE["training"]["properties"])
    del properties["learning_rate_at"]  # of blocks with widths, whose recipes have the `learning_rate` of theirs
    assert set(properties) <= set(parameters)
    required = {name for name in properties if parameters[name].default is inspect.Parameter.empty}
    assert required == set(RECIPE["training"]["required"])


# --- protocol 2 -----------------------------------------------------------------------------------------------------

LEAD = {"test": "outperforms", "task": "elbo", "arms": ["bvae_gain", "vae_narrow"]}
MATCH = {"test": "matches", "task": "reconstruction", "arms": ["bvae", "vae"]}


def second_protocol(*claims: dict, **changes: object) -> dict:
    """The sound study by protocol 2."""
    config = sound() | {"protocol": 2} | changes
    return config | {"claims": list(claims)} if claims else config


def test_protocol_2_has_defaults_of_its_own_and_protocol_1_keeps_its_file_names():
    old, new = check(sound()), check(second_protocol())
    assert new["features"] == ["classifier", "classifier2", "classifier3"]
    assert new["recipes"]["plain"]["importance"] == {"samples": [1, 10, 100, 1000], "images": 2000}
    assert old["features"] == ["classifier"] and "protocol" not in old
    explicit = check(sound() | {"protocol": 1})
    assert results_paths(explicit) == results_paths(old)
    same = check(sound() | {"features": new["features"]})
    same["recipes"]["plain"]["importance"] = new["recipes"]["plain"]["importance"]
    assert set(results_paths(same).values()).isdisjoint(results_paths(new).values())
    assert run_folders(same) == run_folders(new)


def test_claims_without_a_place_are_of_each_place_and_the_first_is_primary():
    config = second_protocol({**LEAD, "latent_dim": 8}, MATCH)
    config["blocks"][0]["latent_dims"] = [8, 16]
    found = expand_claims(check(config))
    assert [(claim["test"], claim["latent_dim"]) for claim in found] == [
        ("outperforms", 8),
        ("matches", 8),
        ("matches", 16),
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (sound() | {"claims": [LEAD]}, "claims: belong to protocol 2"),
        (second_protocol() | {"tuning": True}, "protocol: 2 is for studies whose claims are judged"),
        (second_protocol(features=["classifier"]), "features: classifier2, classifier3 is missing"),
        (second_protocol({**LEAD, "task": "size"}), "claims[0].task: 'size' is not known"),
        (second_protocol({**LEAD, "arms": ["vae"]}), "claims[0].arms: has 1 entries, wanted at least 2"),
        (
            second_protocol({**LEAD, "arms": ["bvae", "vae", "vae_narrow"]}),
            "claims[0].arms: has 3 entries, wanted at most",
        ),
        (second_protocol() | {"protocol": "2"}, "protocol: '2' is not known. Write it without quotes."),
        (sound() | {"tuning": True, "claims": [LEAD]}, "claims: a study of tuning judges none"),
        (second_protocol({"test": "matches", "arms": ["bvae", "vae"]}), "claims[0]: task is missing"),
        (second_protocol({**MATCH, "test": "fails_more"}), "claims[0]: task: reconstruction has no meaning"),
        (second_protocol({**LEAD, "recipe": "other"}), "claims[0]: no run of the study has recipe other"),
        (second_protocol(LEAD, MATCH, {**MATCH, "latent_dim": 8}), "claims: matches reconstruction"),
        (
            second_protocol({"test": "paper_numbers", "arms": ["bvae", "vae"]}),
            "claims[0]: digits, plain, z8: expected mnist, z128",
        ),
    ],
)
def test_faults_of_protocol_2_are_named(config, message):
    assert any(fault.startswith(message) for fault in faults(config)), faults(config)


def test_a_primary_claim_is_about_one_place_and_the_others_are_ten_at_most():
    config = second_protocol(LEAD, MATCH)
    config["blocks"][0]["latent_dims"] = [8, 16]
    assert faults(config)[0].startswith("claims[0]: is about 2 places")
    config = second_protocol({**LEAD, "latent_dim": 1}, MATCH)
    config["blocks"][0]["latent_dims"] = list(range(1, 12))
    assert faults(config)[0].startswith("claims: 11 besides the primary one")
    config["blocks"][0]["latent_dims"] = list(range(1, 11))
    assert len(expand_claims(check(config))) == 11


def test_a_comparison_with_the_matched_vae_needs_one_of_equal_size():
    config = second_protocol(MATCH)
    config["blocks"][0]["arms"] = ["bvae", "vae"]
    assert faults(config)[0].startswith("claims[0]: digits, plain, z8 has no run of vae_narrow")
    config = second_protocol({"test": "fails_more", "arms": ["bvae", "vae"]})
    config["blocks"][0]["arms"] = ["bvae", "vae"]
    check(config)


def test_too_few_images_for_errors_over_images_are_refused():
    config = second_protocol()
    config["recipes"]["plain"]["importance"] = {"images": 1999}
    assert faults(config)[0].startswith("recipes.plain.importance.images: 1999, expected at least 2,000")
