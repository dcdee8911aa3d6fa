"""Model cards: `model_card.md` beside a run's model says what it is, what it was made from and how well it does."""

import json
import logging
from pathlib import Path

import bvae
from bvae.arms import ARMS
from bvae.data import Dataset
from bvae.errors import InputError
from bvae.report.typeset import markdown, to_markdown
from bvae.runs import read_record
from bvae.system.files import write_text

log = logging.getLogger(__name__)

CARD = """\
---
license: mit
library_name: bvae
tags: [variational-autoencoder, image-generation, {arm}]
---
# {arm} of {dataset}, {latent_dim} latents, seed {seed}

It is {kind} (Kosko and Adigun, arXiv 2505.16074), one run of the BVAE benchmark {version}, recipe `{recipe}`.
{status}

    from bvae import load_run
    model, record = load_run("{folder}")
    pictures = model.sample(16)  # (16, {channels}, {size}, {size}) in [0, 1]

| | |
| --- | --- |
| data | {dataset}: {images:,} training images of {size}x{size} pixels, {colours}; source {source} |
| licence of the data | {licence} |
| SHA-256 of the data | `{sha256}` |
| trained | on {device} in {precision}, torch {torch}, training version {training_version} |
| settings | `{settings}` |

{results}

It was made to compare architectures, under settings that are ours, and is fit for that. It makes blurred pictures like
those that it was trained on, and no others. What the licence of the data forbids, it forbids of the model, too.
"""


def write_card(folder: Path, dataset: Dataset, metrics: dict | None = None) -> None:
    """Write the card of the run in `folder`, which `dataset` trained; `metrics` are those of its evaluation.

    Where it cannot be written, a warning says so: hours of computing are not lost for it.
    """
    record = read_record(folder / "model.safetensors")
    run = record["run"]
    sound = "Training ended as planned." if record["status"] == "finished" else f"**Training {record['status']}.**"
    text = CARD.format(
        **{key: run[key] for key in ("arm", "latent_dim", "seed", "recipe")},
        **{key: record[key] for key in ("device", "precision", "training_version")},
        **{key: getattr(dataset, key) for key in ("channels", "size", "sha256")},
        **{key: markdown(getattr(dataset, key)) for key in ("source", "licence")},
        dataset=dataset.name,
        kind=ARMS[run["arm"]].description,
        colours="grey" if dataset.channels == 1 else "in colour",
        version=bvae.__version__,
        status=sound,
        folder=folder.as_posix(),
        images=len(dataset.train_images),
        torch=record["versions"]["torch"],
        settings=json.dumps(run["settings"], sort_keys=True),
        results="Not evaluated yet." if metrics is None else _results(metrics),
    )
    try:
        write_text(folder / "model_card.md", text)
    except InputError as error:
        log.warning("no model card: %s", error)


def _results(metrics: dict) -> str:
    import pandas as pd

    from bvae.report.tables import TABLE1, cell

    shown = {
        column.heading: cell(metrics, column, "")
        for column in TABLE1
        if column.heading is not None and metrics.get(column.name) is not None
    }
    table = to_markdown(pd.DataFrame([shown]))
    on_fewer = ""
    if metrics.get("nll_images", metrics["test_images"]) < metrics["test_images"]:
        on_fewer = f", the NLL on {metrics['nll_images']:,} of them"
    where = f"On the {metrics['test_images']:,} test images{on_fewer} (definitions: `docs/model.md`), n = 1:"
    return f"{where}\n\n{table}".rstrip()
