"""A run: one arm trained once on one data set by one recipe, and the files that hold it."""

import contextlib
import csv
import io
import json
import logging
import math
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import bvae
from bvae.arms import ARMS
from bvae.data import Dataset
from bvae.errors import InputError
from bvae.networks import VAE, Layout, plan
from bvae.objective import build_likelihood
from bvae.system.files import (
    read_facts,
    read_tensors,
    remove_dead_parts,
    sha256_of_json,
    write_tensors,
    write_text,
)
from bvae.system.locks import held_alone
from bvae.system.processors import computes_in_bfloat16, device_name, pick_device, pick_precision
from bvae.system.seeds import derive_seed
from bvae.training import HISTORY_COLUMNS, train

log = logging.getLogger(__name__)

FORMAT = "bvae-run-1"
LINES = "epochs.jsonl"  # in the folder of a run that trains: a line of JSON for each epoch
REMEDY = "Train this run: delete the file if it is there, and run `snakemake`."


@dataclass(frozen=True)
class Run:
    """What identifies a run. `settings` are those of the recipe, defaults filled in."""

    recipe: str
    settings: dict
    dataset: str
    arm: str
    latent_dim: int
    seed: int


def build_model(run: Run, *, channels: int, size: int) -> tuple[VAE, Layout]:
    """The untrained model of a run: its initial weights derive from (data set, seed), the same for every arm."""
    layout = plan(run.settings["network"], channels=channels, size=size, latent_dim=run.latent_dim)
    likelihood = build_likelihood(run.settings["likelihood"], channels=channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(run.dataset, run.seed, "initial weights"))
        model = ARMS[run.arm].model(layout, likelihood)
    return model.to(memory_format=torch.channels_last), model.layout


def train_run(
    run: Run,
    dataset: Dataset,
    folder: Path,
    *,
    device: str = "auto",
    resume_interval: float = 60.0,
    progress: bool = False,
    since: float = math.inf,
) -> str:
    """Train a run and write `model.safetensors` and `history.csv` into `folder`; returns its status.

    That is `finished` or `diverged`. Raises InputError for a device that is not there and for settings that no network
    of the data set can have.

    `resume.pt` is beside them while training lasts, so that a killed run goes on where it was, and so is
    `epochs.jsonl`, which says how far it is. While another process trains the same run, this one waits, and takes its
    results if they are of the same settings. So it does with results that were written after the time `since`, in
    seconds since the epoch: when another process ended while this one waited for a GPU.
    """
    torch.set_num_threads(run.settings["threads"])
    target = pick_device(device)
    precision = pick_precision(run.settings["precision"], target)
    if precision == "bfloat16" and not computes_in_bfloat16(target):
        log.warning(
            "%s has no instructions for bfloat16: training will take several times as long as in float32. To train in"
            " float32, take `precision: auto` or `float32` in a recipe of another name.",
            device_name(target),
        )
    model, layout = build_model(run, channels=dataset.channels, size=dataset.size)
    record = {
        "run": asdict(run),
        "layout": {key: value for key, value in asdict(layout).items() if value is not None},
        "image_channels": dataset.channels,
        "image_size": dataset.size,
        "dataset_sha256": dataset.sha256,
        "training_version": bvae.TRAINING_VERSION,
        "precision": precision,
        "device": device_name(target),
        "versions": versions(),
    }
    with held_alone(folder / "train.lock") as waited:
        if (waited or _written_after(since, folder)) and (status := _trained_meanwhile(folder, record)):
            log.info("%s: trained by another process meanwhile", folder)
            return status
        return _train(run, model.to(target), dataset.train_images.to(target), folder, record, resume_interval, progress)


def _train(
    run: Run, model: VAE, images: torch.Tensor, folder: Path, record: dict, resume_interval: float, progress: bool
) -> str:
    remove_dead_parts(folder)  # of a trainer that was killed while it saved
    resume = folder / "resume.pt"
    history, divergence = train(
        model,
        images,
        identity=(run.dataset, run.seed),
        precision=record["precision"],
        objective=run.settings["objective"]["name"],
        beta=run.settings["objective"]["beta"],
        samples=run.settings["objective"].get("samples", 1),
        resume_path=resume,
        lines_path=folder / LINES,
        fingerprint=sha256_of_json(record),
        resume_interval=resume_interval,
        progress=progress,
        **run.settings["training"],
    )
    table = io.StringIO()
    writer = csv.DictWriter(table, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(folder / "history.csv", table.getvalue())
    status = "finished" if divergence is None else "diverged"
    where = {} if divergence is None else {"diverged_at": divergence}
    save_model(model, folder / "model.safetensors", record | {"status": status} | where)
    resume.unlink(missing_ok=True)
    (folder / LINES).unlink(missing_ok=True)  # history.csv has it all
    return status


def _written_after(since: float, folder: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return (folder / "model.safetensors").stat().st_mtime > since
    return False


def _trained_meanwhile(folder: Path, record: dict) -> str | None:
    """The status of the run in `folder` if it is whole and of the very settings of `record`."""
    try:
        found = read_record(folder / "model.safetensors")
    except InputError:
        return None
    wanted = json.loads(json.dumps(record))  # as it is read: lists, no tuples
    same = (folder / "history.csv").exists() and wanted.items() <= found.items()
    return found["status"] if same else None


def save_model(model: VAE, path: Path, record: dict) -> None:
    """Write the weights, shared ones once, with `record` in the file's metadata."""
    write_tensors(path, dict(model.named_parameters()) | dict(model.named_buffers()), form=FORMAT, facts=record)


def read_record(path: Path) -> dict:
    """What a model file says of its run: settings, data hash, versions, device, status."""
    return read_facts(path, form=FORMAT, remedy=REMEDY)


def load_run(folder: str | Path, *, device: str = "cpu") -> tuple[VAE, dict]:
    """Load a trained run from its folder: the model in evaluation mode on `device`, and its record.

    Raises InputError for a model file that is missing, damaged or of an arm that is not here.
    """
    path = Path(folder) / "model.safetensors"
    tensors, record = read_tensors(path, form=FORMAT, remedy=REMEDY)
    run = Run(**record["run"])
    if run.arm not in ARMS:
        raise InputError(f"{path}: found the arm '{run.arm}', wanted one of bvae/arms/: {', '.join(ARMS)}.")
    sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record["layout"].items()}
    layout = Layout(**sizes)
    likelihood = build_likelihood(run.settings["likelihood"], channels=layout.channels)
    with torch.random.fork_rng(devices=[]):  # the initial weights that are replaced leave the caller's numbers alone
        model = ARMS[run.arm].of_own_layout(layout, likelihood).to(memory_format=torch.channels_last)
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    own = dict(model.named_parameters()).keys() | dict(model.named_buffers()).keys()  # shared ones once, as in the file
    if unexpected or own & set(missing):
        raise InputError(f"{path}: its tensors do not fit its recorded settings. {REMEDY}")
    return model.to(pick_device(device)).eval(), record


def versions() -> dict[str, str]:
    """The versions that numbers depend on."""
    return {"bvae": bvae.__version__, "python": platform.python_version(), "torch": torch.__version__}
