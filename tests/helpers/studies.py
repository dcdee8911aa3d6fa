"""The shipped studies, a sound small one, and the check of a study."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from bvae.study.config import check_study, known_datasets, load_schema
from bvae.study.runs import results_paths, run_name
from bvae.system.files import read_yaml
from helpers.checkouts import ROOT

SCHEMA = load_schema()
DATASETS = known_datasets(ROOT / "workflow")
STUDIES = sorted(path for path in (ROOT / "config").glob("*.yaml") if path.stem != "claims")
RECIPE = SCHEMA["properties"]["recipes"]["additionalProperties"]["properties"]
BLOCK = SCHEMA["properties"]["blocks"]["items"]["properties"]
FOUR = BLOCK["arms"]["default"]  # arms, which every network allows


def sound() -> dict:
    """A study with nothing but what is required."""
    return {
        "study": "small",
        "blocks": [{"datasets": ["digits"], "recipes": ["plain"], "latent_dims": [8], "seeds": [0]}],
        "recipes": {
            "plain": {
                "network": {"architecture": "mlp", "hidden": [16]},
                "training": {"epochs": 2, "batch_size": 64, "learning_rate": 0.001},
            }
        },
    }


def check(config: object) -> dict:
    return check_study(config, datasets=DATASETS)


def quick_run(arm: str, seed: int) -> str:
    """The folder of a run of the quick study."""
    return quick_metrics(arm, seed).rpartition("/")[0]


def quick_metrics(arm: str, seed: int, config: dict | None = None, datasets: Sequence[str] = DATASETS) -> str:
    """The metrics of a run of the quick study, or of a changed one, on the last of its data sets."""
    study = check_study(config or read_yaml(ROOT / "config/quick.yaml"), datasets=datasets)
    run = {"recipe": "mlp-quick", "dataset": study["blocks"][0]["datasets"][-1], "arm": arm, "latent_dim": 8}
    return results_paths(study, ROOT / "nowhere")[run_name(run | {"seed": seed})]


def edited_quick(checkout: Path, edit) -> str:
    """Write an edited copy of the quick study's config; returns its path."""
    config = yaml.safe_load((checkout / "config/quick.yaml").read_text())
    edit(config)
    (checkout / "config/edited.yaml").write_text(yaml.safe_dump(config))
    return "config/edited.yaml"


def planned_jobs(output: str) -> dict[str, int]:
    """The counts of Snakemake's job statistics."""
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}
