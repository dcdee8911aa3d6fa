"""A run: one arm trained once on one data set by one recipe, and the files that hold it."""

import csv
import hashlib
import io
import json
import logging
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch

import bvae
from bvae.arms import BUILDERS
from bvae.data import Dataset
from bvae.files import InputError, whole_file, write_text
from bvae.networks import VAE, Layout, plan
from bvae.objective import build_likelihood
from bvae.seeds import derive_seed
from bvae.training import HISTORY_COLUMNS, pick_device, pick_precision, train

log = logging.getLogger(__name__)

FORMAT = "bvae-run-1"


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
        model = BUILDERS[run.arm](layout, likelihood)
    return model.to(memory_format=torch.channels_last), model.layout


def train_run(
    run: Run,
    dataset: Dataset,
    folder: Path,
    *,
    device: str = "auto",
    resume_interval: float = 60.0,
    progress: bool = False,
) -> str:
    """Train a run and write `model.safetensors` and `history.csv` into `folder`; returns its status.

    `resume.pt` stands beside them while training lasts, so that a killed run goes on where it was.
    """
    torch.set_num_threads(run.settings["threads"])
    target = pick_device(device)
    precision = pick_precision(run.settings["precision"], target)
    model, layout = build_model(run, channels=dataset.channels, size=dataset.size)
    record = {
        "run": asdict(run),
        "layout": asdict(layout),
        "image_channels": dataset.channels,
        "image_size": dataset.size,
        "dataset_sha256": dataset.sha256,
        "training_version": bvae.TRAINING_VERSION,
        "precision": precision,
        "device": device_name(target),
        "versions": versions(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    resume = folder / "resume.pt"
    history, status = train(
        model.to(target),
        dataset.train_images.to(target),
        identity=(run.dataset, run.seed),
        precision=precision,
        objective=run.settings["objective"]["name"],
        beta=run.settings["objective"]["beta"],
        resume_path=resume,
        fingerprint=hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest(),
        resume_interval=resume_interval,
        progress=progress,
        **run.settings["training"],
    )
    table = io.StringIO()
    writer = csv.DictWriter(table, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(folder / "history.csv", table.getvalue())
    save_model(model, folder / "model.safetensors", record | {"status": status})
    resume.unlink(missing_ok=True)
    return status


def save_model(model: VAE, path: Path, record: dict) -> None:
    """Write the weights, shared ones once, with `record` as JSON in the file's metadata."""
    metadata = {"format": FORMAT, "record": json.dumps(record, sort_keys=True)}
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata=metadata)


def read_record(path: Path) -> dict:
    """What a model file says of its run: settings, data hash, versions, device, status."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Train this run first, or run plain `snakemake`.") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: damaged model file ({error}). Delete it and run `snakemake` again.") from None
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path}: format is {metadata.get('format')!r}, wanted {FORMAT!r}. Delete it and train again.")
    return json.loads(metadata["record"])


def load_run(folder: str | Path, *, device: str = "cpu") -> tuple[VAE, dict]:
    """Load a trained run from its folder: the model in evaluation mode on `device`, and its record."""
    path = Path(folder) / "model.safetensors"
    record = read_record(path)
    model, _ = build_model(Run(**record["run"]), channels=record["image_channels"], size=record["image_size"])
    tensors = safetensors.torch.load_file(path)
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    if unexpected or any(not (model.tied and name.startswith("decoder_weights.")) for name in missing):
        raise InputError(f"{path}: its tensors do not fit its recorded settings. Delete it and run `snakemake` again.")
    return model.to(device).eval(), record


def device_name(device: torch.device) -> str:
    """The processor or card that computes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()})"


def versions() -> dict[str, str]:
    """The versions that numbers depend on."""
    return {"bvae": bvae.__version__, "python": platform.python_version(), "torch": torch.__version__}
