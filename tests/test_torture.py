"""A study that is killed ends in the same bytes as one that is not; two Snakemakes in a folder do not meet."""

import copy
import time
from pathlib import Path

import pytest

from bvae.system.files import read_yaml
from helpers.checkouts import QUICK, ROOT, snakemake
from helpers.studies import quick_metrics
from tools import torture
from tools.mutation import MUTATIONS

STUDY = (*QUICK, "--configfile", "config/torture.yaml")


@pytest.fixture
def study() -> dict:
    """The quick study with one run."""
    study = copy.deepcopy(read_yaml(ROOT / "config/quick.yaml"))
    study["blocks"][0] |= {"arms": ["bvae"], "seeds": [0]}
    del study["protocol"], study["claims"]  # one classifier is trained sooner than three
    study["recipes"]["mlp-quick"]["importance"]["samples"] = [1, 10]
    return study


def model_of(study: dict) -> str:
    """The model of the study's first run."""
    return str(Path(quick_metrics("bvae", 0, study)).with_name("model.safetensors"))


def test_a_kill_changes_no_byte(tmp_path, study):
    """`make torture` in short, to the model of one run; it exits with what differs."""
    struck = torture.torture(tmp_path, study, kills=1, longest=10, seed=1, targets=[model_of(study)])
    assert struck.total() == 1


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_line_that_make_mutation_breaks_is_there_once(name):
    file, line, broken, tests = MUTATIONS[name]
    assert (ROOT / file).read_text(encoding="utf-8").count(line) == 1 and line != broken
    assert (ROOT / tests).exists()


@pytest.mark.slow
def test_five_kills_of_two_runs_change_no_byte(tmp_path, study):
    study["blocks"][0]["arms"] = ["bvae", "vae"]
    assert torture.torture(tmp_path, study, kills=5, longest=15, seed=1).total() == 5


@pytest.mark.slow
def test_a_second_snakemake_says_who_is_at_work_and_stays_away(tmp_path, study):
    study["recipes"]["mlp-quick"]["training"]["epochs"] = 250  # so that the first is still at work
    checkout, log = torture.prepare(tmp_path, study), tmp_path / "log"
    model = model_of(study)
    first = torture.start(checkout, log, "--", model)
    while first.poll() is None and not list((checkout / "results/runs").rglob("train.lock")):
        time.sleep(0.05)
    second = snakemake(checkout, *STUDY, "--", model)
    assert second.returncode == 1
    assert f"another snakemake is at work in this folder, process {first.pid}" in second.stdout
    assert "cannot be locked" in second.stdout
    assert first.wait(600) == 0, log.read_text()[-3000:]
    assert "Nothing to be done" in snakemake(checkout, *STUDY, "--", model).stdout
    assert torture.at_work(checkout) == []
