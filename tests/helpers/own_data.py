"""A data set of one's own, by the steps of docs/extending.md."""

import re
import textwrap
import zipfile
from pathlib import Path

from helpers import fake_data
from helpers.checkouts import ROOT


def own_data_steps() -> list[list[str]]:
    """The indented blocks of each step of the section on data sets of one's own."""
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    section = re.search(r"^## A data set of your own$(.*?)^## ", text, re.MULTILINE | re.DOTALL)[1]
    steps = re.split(r"^\d\. ", section, flags=re.MULTILINE)[1:]
    return [[textwrap.dedent(block) for block in re.findall(r"(?:^ {7}.*\n)+", step, re.MULTILINE)] for step in steps]


def bring_birds(checkout: Path, *, n_train: int, n_test: int) -> list[str]:
    """The first three steps of that section, to the letter; returns the commands of the fourth."""
    [images], [rule], [changes], [commands] = own_data_steps()
    assert re.match(r"birds/train/\w+/1\.png", images)
    fake_data.write_class_folders(checkout / "birds.zip", n_train=n_train, n_test=n_test, seed=1, channels=3, size=40)
    with zipfile.ZipFile(checkout / "birds.zip") as archive:
        archive.extractall(checkout)
    (checkout / "workflow/rules/datasets/birds.smk").write_text(rule)
    study = (checkout / "config/quick.yaml").read_text()
    for line in changes.splitlines():
        study = re.sub(rf"^{line.split(':')[0]}:.*$", line, study, flags=re.MULTILINE)
    (checkout / "config/birds.yaml").write_text(study)
    return commands.splitlines()
