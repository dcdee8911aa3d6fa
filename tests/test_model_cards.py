"""A model card says what its run's files say, and its lines load the model."""

import dataclasses
import json
import logging
import re
import textwrap
from pathlib import Path

import pytest
import yaml

from bvae.__main__ import main
from bvae.data import save
from bvae.errors import InputError
from bvae.evaluation import protocol
from bvae.report import model_cards as cards
from bvae.runs import read_record
from bvae.study.config import check_study
from bvae.study.runs import run_folders
from bvae.system.files import read_json, write_text
from helpers.small import SETTINGS, SHORT_SWEEP

ARM = "vae_narrow"


def study(arm: str, settings: dict = SETTINGS) -> dict:
    """A study of one run."""
    block = {"datasets": ["fake"], "recipes": ["small"], "latent_dims": [3], "arms": [arm], "seeds": [1]}
    return {"study": "one", "blocks": [block], "recipes": {"small": settings | {"importance": SHORT_SWEEP}}}


def folder(arm: str, settings: dict = SETTINGS) -> str:
    """The folder of its run."""
    [found] = run_folders(check_study(study(arm, settings), datasets=None)).values()
    return found


FOLDER = folder(ARM)


def train(fake, arm: str, *, settings: dict = SETTINGS) -> int:
    """Train by the command line in the working directory; its exit status."""
    save(fake, "resources/data/fake.safetensors")
    write_text("one.yaml", yaml.safe_dump(study(arm, settings)))
    return main(["train", "one.yaml", f"{arm}-z3-seed1"])


@pytest.fixture
def trained(fake, tmp_path, monkeypatch) -> str:
    """The card of a run that the command line has trained in the working directory."""
    monkeypatch.chdir(tmp_path)
    assert train(fake, ARM) == 0
    return (tmp_path / FOLDER / "model_card.md").read_text()


def test_a_card_says_what_was_trained_on_what(trained, fake):
    assert "# vae_narrow of fake, 3 latents, seed 1" in trained
    assert "120 training images of 8x8 pixels, grey; source here" in trained
    assert f"| SHA-256 of the data | `{fake.sha256}` |" in trained
    assert "| licence of the data | none |" in trained
    settings = json.loads(re.search(r"\| settings \| `(.*)` \|", trained)[1])
    assert settings == read_record(Path(FOLDER, "model.safetensors"))["run"]["settings"]
    assert settings["training"].items() >= SETTINGS["training"].items()
    assert "Training ended as planned." in trained
    assert "Not evaluated yet." in trained


def test_what_a_data_set_says_of_itself_is_text_in_a_card(fake, tmp_path, monkeypatch):
    """Its source and its licence: a bar would end a cell, a line break the table."""
    monkeypatch.chdir(tmp_path)
    said = dataclasses.replace(fake, licence="mine | <b>\n# yours", source="folder:my_birds")
    assert train(said, "bvae") == 0
    card = (tmp_path / folder("bvae") / "model_card.md").read_text()
    assert r"| licence of the data | mine \| \<b\> \# yours |" in card.splitlines()
    assert r"source folder:my\_birds |" in card


def test_the_lines_of_a_card_load_the_model_and_sample_from_it(trained):
    found: dict = {}
    exec(textwrap.dedent("".join(re.findall(r"^    .*\n", trained, re.MULTILINE))), found)
    assert found["record"]["run"]["arm"] == "vae_narrow"
    assert found["pictures"].shape == (16, 1, 8, 8)


def test_an_evaluation_adds_its_numbers(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(protocol, "CLASSIFIER_STEPS", 20)
    assert main(["reference", "fake-classifier"]) == 0
    assert main(["evaluate", "one.yaml", "fake/vae_narrow-z3-seed1"]) == 0
    [metrics] = (tmp_path / FOLDER).glob("metrics-*.json")
    card, row = (tmp_path / FOLDER / "model_card.md").read_text(), read_json(metrics)
    header, _, cells = (line.strip("| ").split(" | ") for line in card.split("n = 1:\n\n")[1].splitlines()[:3])
    shown = dict(zip(header, cells, strict=True))
    assert shown["Parameters"] == f"{row['parameters']:,}"
    assert shown["ELBO ↑"] == f"{row['elbo']:.2f}"
    assert shown["Probe % ↑"] == f"{100 * row['probe_accuracy']:.2f}"
    assert "SSIM ↑" not in shown  # images of 8 pixels have none
    assert "Not evaluated" not in card


def test_a_run_that_diverged_says_so(fake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = SETTINGS | {"training": SETTINGS["training"] | {"learning_rate": 1e30}}
    assert train(fake, "bvae", settings=settings) == 0
    assert "**Training diverged.**" in (tmp_path / folder("bvae", settings) / "model_card.md").read_text()


def test_a_card_that_cannot_be_written_loses_no_run(fake, tmp_path, monkeypatch, caplog):
    def refuse(path, text):
        raise InputError("the disk is full")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cards, "write_text", refuse)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)  # the root logger stays pytest's
    assert train(fake, "bvae") == 0
    assert "no model card: the disk is full" in caplog.text
    assert read_record(tmp_path / folder("bvae") / "model.safetensors")["status"] == "finished"
