"""Steps called by hand: a study and the name of what to make."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bvae.__main__ import EXAMPLES, main
from bvae.data import save
from bvae.errors import InputError
from bvae.evaluation import protocol
from bvae.evaluation.metrics import TASKS
from bvae.study.runs import find_group, find_run, group_paths, results_paths, run_folders
from bvae.system.files import read_yaml
from helpers.checkouts import ROOT
from helpers.small import make_dataset
from helpers.studies import check, quick_run


def test_a_new_version_of_a_task_leaves_the_others(quick_copy, monkeypatch):
    """The distances of a finished run are kept when the probe's version rises.

    Of another model, and of damaged metrics, nothing is kept.
    """
    monkeypatch.chdir(quick_copy)
    [path] = Path(quick_run("bvae", 0)).glob("metrics-*.json")
    row = json.loads(path.read_text())
    marked = row | {"fd_classifier_samples": -1.0, "probe_accuracy": -1.0}  # to be told from what is computed anew
    path.write_text(json.dumps(marked))
    monkeypatch.setitem(TASKS, "classification", replace(TASKS["classification"], version=99))
    assert main(["evaluate", "config/quick.yaml", "bvae-z8-seed0"]) == 0
    again = json.loads(path.read_text())
    assert again["fd_classifier_samples"] == -1.0
    assert again["probe_accuracy"] == row["probe_accuracy"]
    assert again["tasks"]["classification"]["version"] == 99
    for unusable in (json.dumps(marked | {"model_sha256": "0" * 64}), "{"):
        path.write_text(unusable)
        assert main(["evaluate", "config/quick.yaml", "bvae-z8-seed0"]) == 0
        again = json.loads(path.read_text())
        assert {name: again[name] for name in row if name != "tasks"} == {k: v for k, v in row.items() if k != "tasks"}


def test_a_run_of_a_renamed_recipe_is_evaluated_as_its_study_asks(quick_copy, monkeypatch):
    """The folder has the first recipe's name; another sweep over K is that of the study, under its own name."""
    monkeypatch.chdir(quick_copy)
    config = read_yaml("config/quick.yaml")
    config["recipes"] = {"perceptron": config["recipes"]["mlp-quick"] | {"importance": {"samples": [1, 7]}}}
    config["blocks"][0]["recipes"] = ["perceptron"]
    Path("config/renamed.yaml").write_text(yaml.safe_dump(config))
    before = set(Path(quick_run("bvae", 0)).glob("metrics-*.json"))
    assert main(["evaluate", "config/renamed.yaml", "perceptron/digits/bvae-z8-seed0"]) == 0
    [path] = set(Path(quick_run("bvae", 0)).glob("metrics-*.json")) - before
    row = json.loads(path.read_text())
    assert (row["nll_samples"], row["importance"]["samples"]) == (7, [1, 7])
    assert main(["untrained", "config/renamed.yaml", "perceptron/digits-z8-seed0"]) == 0


@pytest.mark.parametrize("step", ["tuning", "table", "claims"])
def test_a_study_that_tunes_has_one_table_and_no_other_has_it(tmp_path, monkeypatch, capsys, step):
    """Else ELBOs of test images would be printed as those of held-out ones."""
    monkeypatch.chdir(tmp_path)
    study = ROOT / f"config/{'quick' if step == 'tuning' else 'tuning_mlp'}.yaml"
    assert main([step, str(study)]) == 1
    assert "`tuning: true`" in capsys.readouterr().err
    assert not Path("results").exists()


@pytest.mark.parametrize("step", [["controls", "digits"], ["pca", "digits-pca2"], ["reference", "digits-classifier"]])
def test_a_data_set_has_the_name_of_its_file(tmp_path, monkeypatch, capsys, step):
    """Else its numbers would be printed as those of the other."""
    monkeypatch.chdir(tmp_path)
    save(make_dataset(20, 20), "resources/data/digits.safetensors")
    assert main(step) == 1
    assert "found the data set 'fake', wanted 'digits'" in capsys.readouterr().err
    assert not Path("results").exists()


def test_recipes_of_equal_settings_share_a_run_and_not_its_results():
    """They differ in the sweep over K alone: the file of the metrics says whose is meant."""
    config = read_yaml(ROOT / "config/quick.yaml")
    del config["claims"]  # the first is about one place
    config["recipes"]["twin"] = config["recipes"]["mlp-quick"] | {"importance": {"samples": [1, 7]}}
    config["blocks"][0]["recipes"].append("twin")
    study = check(config)
    folders, results = run_folders(study, ROOT / "nowhere"), results_paths(study, ROOT / "nowhere")
    for name, folder in folders.items():
        found = find_run(study, folder, ROOT / "nowhere")
        assert (found.path, found.run.recipe) == (Path(folder), "mlp-quick")
        assert found.run.settings == find_run(study, name, ROOT / "nowhere").run.settings
        assert find_run(study, results[name], ROOT / "nowhere", results=True).recipe == name.partition("/")[0]
    assert len({*folders.values()}) == 12 and len({*results.values()}) == 24
    with pytest.raises(InputError, match="is the end of 2 names: mlp-quick/digits/bvae-z8-seed0, twin/digits"):
        find_run(study, "digits/bvae-z8-seed0", ROOT / "nowhere", results=True)
    for group in group_paths(study, ROOT / "nowhere"):
        assert find_group(study, group["cost"], "cost", ROOT / "nowhere").run.seed == 0
        untrained = find_group(study, group["untrained"], "untrained", ROOT / "nowhere")
        assert (untrained.path, untrained.run.latent_dim) == (Path(group["untrained"]), 8)


@pytest.mark.slow
def test_the_examples_of_the_help_run_as_printed(quick_copy, monkeypatch):
    """Of those that the quick study has the data for: they make the very bytes that the workflow has made."""
    monkeypatch.chdir(quick_copy)
    monkeypatch.setattr(protocol, "COST_ROUNDS", 1)
    kinds = (".csv", ".png", ".svg", ".safetensors")
    made = [path for path in Path("results").rglob("*") if path.suffix in kinds and "table3" not in path.name]
    made += [Path("resources/data/digits.safetensors"), *Path("results").glob("runs/*/*/*/metrics-*.json")]
    before = {path: path.read_bytes() for path in made}
    steps = (
        "fetch",
        "data describe",
        "train",
        "reference",
        "evaluate",
        "distortions",
        "controls",
        "pca",
        "untrained",
        "cost",
    )
    for step in (*steps, "table", "claims", "figure", "publish", "runs", "summary", "tensorboard"):
        if step == "publish":  # costs were measured again, so that the example of `table` is not all that is outdated
            assert main(["publish", "config/quick.yaml"]) == 1
            assert main(["table", "config/quick.yaml"]) == 0
        assert main([*step.split(), *shlex.split(EXAMPLES[step])]) == 0, step
    assert {path: path.read_bytes() for path in made} == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["train", "config/quick.yaml", "seed0"],
            "study 'quick' has no 'seed0'. It has mlp-quick/digits/bvae-z8-seed0",
        ),
        (["evaluate", "config/two.yaml", "bvae-z8-seed0"], "'bvae-z8-seed0' is the end of 2 names"),
        (["cost", "config/quick.yaml", "digits-z9"], "has no 'digits-z9'. It has mlp-quick/digits-z8"),
        (["figure", "config/quick.yaml", "sampels"], "sampels: no figure of study 'quick'"),
        (["figure", "config/quick.yaml", "samples-mlp-quick-digits-z9"], "no figure of study 'quick'"),
        (["table", "config/quick.yaml", "table9"], "table9: no such table"),
        (["reference", "digits"], "digits: wanted <data set>-<one of"),
        (["pca", "digits-pca0"], "digits-pca0: wanted <data set>-pca<components>"),
        (["train", "config/none.yaml", "bvae-z8-seed0"], "config/none.yaml: no such file"),
        (["train", "config", "bvae-z8-seed0"], "config: cannot be read (Is a directory)"),
        (["train", "config/date.yaml", "bvae-z8-seed0"], "config/date.yaml has 1 fault:\n  - line 1"),
        (["claims", "config/mnist.yaml", "--claims", "config"], "config: cannot be read (Is a directory)"),
        (["claims", "config/quick.yaml", "--claims", "config"], "study 'quick' is of protocol 2"),
        (["controls", "../data/digits"], "../data/digits: no name of a data set"),
        (["pca", "../data/digits-pca8"], "../data/digits: no name of a data set"),
        (["pca", f"digits-pca{'9' * 5000}"], "wanted <data set>-pca<components>"),
        (["reference", "../data/digits-classifier"], "../data/digits: no name of a data set"),
        (["figure", "config/quick.yaml", "samples-"], "samples-: no figure of study 'quick'"),
    ],
)
def test_a_name_that_means_nothing_is_answered_with_those_there_are(plan, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(plan)
    config = read_yaml("config/quick.yaml")
    del config["claims"]  # the first is about one place
    config["recipes"]["other"] = config["recipes"]["mlp-quick"] | {"threads": 2}
    config["blocks"][0]["recipes"].append("other")
    Path("config/two.yaml").write_text(yaml.safe_dump(config))
    Path("config/date.yaml").write_text("title: 2024-13-45\n")
    assert main(arguments) == 1
    assert said in capsys.readouterr().err
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["status", "config/quick.yaml", "--watch", "-1"], "argument --watch: invalid"),
        (["status", "config/quick.yaml", "--log", "config"], "--log config: cannot be written"),
    ],
)
def test_an_option_that_cannot_be_is_refused(plan, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(plan)
    with pytest.raises(SystemExit):
        main(arguments)
    assert said in capsys.readouterr().err
