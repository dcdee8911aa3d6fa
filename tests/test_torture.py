"""A study that is killed ends in the same bytes as one that is not; two Snakemakes in a folder do not meet."""

import copy
import time

import pytest
import torture
from workflow_runner import ROOT, snakemake

from bvae.files import read_yaml

PROFILE = ("--workflow-profile", "profiles/quick", "--configfile", "config/torture.yaml")


@pytest.fixture
def study() -> dict:
    """The quick study with two runs."""
    study = copy.deepcopy(read_yaml(ROOT / "config/quick.yaml"))
    study["blocks"][0] |= {"arms": ["bvae", "vae"], "seeds": [0]}
    study["recipes"]["mlp-quick"]["importance"]["samples"] = [1, 10]
    return study


def test_five_kills_change_no_byte(tmp_path, study):
    """`make torture` in short; it exits with what differs."""
    struck = torture.torture(tmp_path, study, kills=5, longest=15, seed=1)
    assert struck.total() == 5


def test_a_second_snakemake_says_who_is_at_work_and_stays_away(tmp_path, study):
    checkout, log = torture.prepare(tmp_path, study), tmp_path / "log"
    first = torture.start(checkout, log)
    while first.poll() is None and not list((checkout / "results/runs").rglob("train.lock")):
        time.sleep(0.05)
    second = snakemake(checkout, *PROFILE)
    assert second.returncode == 1
    assert f"another snakemake is at work in this folder, process {first.pid}" in second.stdout
    assert "cannot be locked" in second.stdout
    assert first.wait(600) == 0, log.read_text()[-3000:]
    assert "Nothing to be done" in snakemake(checkout, *PROFILE).stdout
    assert torture.at_work(checkout) == []
