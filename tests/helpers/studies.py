"""The shipped studies, a sound small one, and the check of a study."""

from bvae.study.config import check_study, known_datasets, load_schema
from helpers.checkouts import ROOT

SCHEMA = load_schema()
DATASETS = known_datasets(ROOT / "workflow")
STUDIES = sorted(path for path in (ROOT / "config").glob("*.yaml") if path.stem != "claims")
RECIPE = SCHEMA["properties"]["recipes"]["additionalProperties"]["properties"]
BLOCK = SCHEMA["properties"]["blocks"]["items"]["properties"]


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
