"""Steps called by hand: a study and the name of what to make."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bvae.__main__ import EXAMPLES, main
from bvae.evaluation import protocol
from bvae.evaluation.metrics import TASKS
from bvae.system.files import read_yaml
from helpers.studies import quick_run


def test_a_new_version_of_a_task_leaves_the_others(quick_copy, monkeypatch):
    """The distances of a finished run are kept when the probe's version rises; a changed model keeps nothing."""
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
    path.write_text(json.dumps(marked | {"model_sha256": "0" * 64}))
    assert main(["evaluate", "config/quick.yaml", "bvae-z8-seed0"]) == 0
    again = json.loads(path.read_text())
    assert {name: again[name] for name in row if name != "tasks"} == {k: v for k, v in row.items() if k != "tasks"}


@pytest.mark.slow
def test_the_examples_of_the_help_run_as_printed(quick_copy, monkeypatch):
    """Of those that the quick study has the data for: they make the very bytes that the workflow has made."""
    monkeypatch.chdir(quick_copy)
    monkeypatch.setattr(protocol, "COST_ROUNDS", 1)
    kinds = (".csv", ".png", ".svg", ".safetensors")
    made = [path for path in Path("results").rglob("*") if path.suffix in kinds and "table3" not in path.name]
    made += [Path("resources/data/digits.safetensors"), *Path("results").glob("runs/*/*/*/metrics-*.json")]
    before = {path: path.read_bytes() for path in made}
    steps = ("fetch", "data describe", "train", "reference", "evaluate", "controls", "pca", "untrained", "cost")
    for step in (*steps, "table", "claims", "figure", "publish", "runs", "tensorboard"):
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
        (["train", "config/date.yaml", "bvae-z8-seed0"], "config/date.yaml: not a YAML file: month must be in 1..12"),
        (["claims", "config/quick.yaml", "--claims", "config"], "config: cannot be read (Is a directory)"),
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
