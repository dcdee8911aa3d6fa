"""The shipped studies, a sound small one, and the check of a study."""

from bvae.config import check_study, load_schema
from helpers.checkouts import ROOT

SCHEMA = load_schema(ROOT / "workflow" / "schemas" / "config.schema.yaml")
DATASETS = sorted(path.stem for path in (ROOT / "workflow" / "rules" / "datasets").glob("*.smk"))
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
    return check_study(config, schema=SCHEMA, datasets=DATASETS)
