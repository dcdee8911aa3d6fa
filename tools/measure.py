"""One measurement of the performance benchmark in a process of its own: prints what it found as one line of JSON.

    python tools/measure.py training ours resources/data/mnist.safetensors --precision bfloat16

`performance.py` repeats these, interleaved. Run from the repository's root.
"""

import argparse
import json
import logging
import math
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, TensorDataset

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bvae.arms import ARMS  # noqa: E402
from bvae.data import dataset as data  # noqa: E402
from bvae.errors import InputError  # noqa: E402
from bvae.evaluation.cost import measure_costs  # noqa: E402
from bvae.networks import VAE  # noqa: E402
from bvae.objective import evaluate_elbo  # noqa: E402
from bvae.runs import Run, build_model, train_run  # noqa: E402
from bvae.study.config import check_study  # noqa: E402
from bvae.system.allocator import keep_freed_memory  # noqa: E402
from bvae.system.processors import device_name, pick_device, pick_precision  # noqa: E402
from bvae.training import build_optimizer, train, training_step  # noqa: E402

BATCH_SIZE, LEARNING_RATE, LATENT_DIM = 64, 1e-3, 128
STEPS = 16  # of one timing of `arms`


def recipe(*, threads: int, network: dict | None = None) -> dict:
    """The recipe of config/mnist.yaml in the precision of the device, with another number of threads, or network."""
    config = yaml.safe_load((ROOT / "config/mnist.yaml").read_text(encoding="utf-8"))
    checked = check_study(config, datasets=["mnist"])
    changed = {"threads": threads, "precision": "auto"} | ({"network": network} if network else {})
    return checked["recipes"]["resnet-small"] | changed


def make_model(arm: str, dataset: data.Dataset, network: dict | None = None) -> VAE:
    """An untrained model of the small residual network."""
    run = Run("benchmark", recipe(threads=1, network=network), dataset.name, arm, LATENT_DIM, 0)
    return build_model(run, channels=dataset.channels, size=dataset.size)[0]


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of a call, until the device has finished it."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


# --------------------------------------------------------------------------------------------------------------------
# Training of one and the same network: images a second
# --------------------------------------------------------------------------------------------------------------------


def ours(model: VAE, images: Tensor, precision: str, workers: int = 0, epochs: int = 1) -> None:
    """`bvae.training.train`, as a recipe's."""
    train(
        model,
        images,
        identity=("benchmark", 0),
        epochs=epochs,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        gradient_clip=100.0,
        precision=precision,
    )


def bare(model: VAE, images: Tensor, precision: str, workers: int = 0) -> None:
    """As many training steps on one batch that lies ready, and nothing else."""
    take_step = prepared_step(model, images, precision)
    for _ in range(len(images) // BATCH_SIZE):
        take_step()


def prepared_step(model: VAE, images: Tensor, precision: str) -> Callable[[], object]:
    """A training step on the first images, without arguments."""
    take_step = training_step(
        model,
        build_optimizer(model, LEARNING_RATE, 0.0),
        objective="elbo",
        beta=1.0,
        gradient_clip=100.0,
        precision=precision,
        dataset_size=len(images),
    )
    batch, noise = images[:BATCH_SIZE].clone(), torch.randn(1, BATCH_SIZE, LATENT_DIM, device=images.device)
    return lambda: take_step(batch, noise)


class Batches(Dataset):
    """Whole batches by one indexing: the fastest way through a DataLoader."""

    def __init__(self, images: Tensor):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: list[int]) -> list[Tensor]:
        return [self.images[index]]


def loop(model: VAE, images: Tensor, precision: str, workers: int) -> None:
    """What a plain script does: float images, a DataLoader, AdamW, the model in PyTorch's usual memory format."""
    model = model.to(memory_format=torch.contiguous_format)
    floats = images.cpu().float() / 255
    if workers:
        loader = DataLoader(TensorDataset(floats), BATCH_SIZE, shuffle=True, num_workers=workers)
    else:
        batches = BatchSampler(RandomSampler(floats), BATCH_SIZE, drop_last=False)
        loader = DataLoader(Batches(floats), sampler=batches, batch_size=None)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    for (batch,) in loader:
        batch = batch.to(images.device)
        noise = torch.randn(len(batch), LATENT_DIM, device=images.device)
        loss = -evaluate_elbo(model, batch, noise).elbo.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def pythae(model: VAE, images: Tensor, precision: str, workers: int) -> None:
    """pythae's trainer and its VAE around the very same encoder and decoder."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    logging.disable(logging.INFO)

    class Encoder(BaseEncoder):
        def __init__(self, network: nn.Module):
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> ModelOutput:
            mean, log_variance = self.network.encode(x)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self, network: nn.Module):
            super().__init__()
            self.network = network

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.network.decode_mean(z))

    network = model.to(memory_format=torch.contiguous_format)
    shape = tuple(images.shape[1:])
    config = VAEConfig(input_dim=shape, latent_dim=LATENT_DIM, reconstruction_loss="bce")
    theirs = PythaeVAE(config, encoder=Encoder(network), decoder=Decoder(network))
    floats = images.cpu().float() / 255
    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=1,
            learning_rate=LEARNING_RATE,
            per_device_train_batch_size=BATCH_SIZE,
            optimizer_cls="AdamW",
            train_dataloader_num_workers=workers,
            no_cuda=images.device.type == "cpu",
        )
        labels = torch.zeros(len(floats))
        trainer = BaseTrainer(theirs, train_dataset=BaseDataset(floats, labels), training_config=settings)
        trainer.prepare_training()
        trainer.callback_handler.callbacks.clear()  # no progress bar
        trainer.train_step(1)


TRAINERS = {"ours": ours, "bare": bare, "loop": loop, "pythae": pythae}


def training(args: argparse.Namespace) -> dict:
    """Images a second of one epoch, after a short one to warm up."""
    device = pick_device(args.device)
    torch.set_num_threads(args.threads)
    if args.who in ("ours", "bare"):
        keep_freed_memory()  # as `python -m bvae` does; the others are as their users find them
    elif device.type == "cuda":
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = True, False  # torch's defaults
    dataset = data.load(args.data)
    images = dataset.train_images[: args.images].to(device)
    run = TRAINERS[args.who]
    run(make_model(args.arm, dataset).to(device), images[: 4 * BATCH_SIZE], args.precision, args.workers)
    model = make_model(args.arm, dataset).to(device)
    passed = seconds(lambda: run(model, images, args.precision, args.workers), device)
    trained = len(images) // BATCH_SIZE * BATCH_SIZE if args.who in ("ours", "bare") else len(images)
    return {"images_per_second": trained / passed}


def arms(args: argparse.Namespace) -> dict:
    """Seconds an image of the bare step of the BVAE and of its VAE, in turn within one process."""
    device = pick_device(args.device)
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    dataset = data.load(args.data)
    images = dataset.train_images[: args.images].to(device)
    models = {arm: make_model(arm, dataset).to(device) for arm in ("bvae", "vae")}
    steps = {arm: prepared_step(model, images, args.precision) for arm, model in models.items()}
    found: dict[str, list[float]] = {arm: [] for arm in steps}
    for round_number in range(args.repetitions + 1):
        for arm, take_step in steps.items():
            passed = seconds(lambda take_step=take_step: [take_step() for _ in range(STEPS)], device)
            if round_number:  # the first warms up
                found[arm].append(passed / STEPS / BATCH_SIZE)
    return found


def scaling(args: argparse.Namespace) -> dict:
    """Seconds an image of our training with few images and with many, of a network so small that the rest shows."""
    device = pick_device(args.device)
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    dataset = data.load(args.data)
    images = dataset.train_images.to(device)
    network = {"architecture": "mlp", "hidden": [256, 128]}
    sizes = {"many": len(images), "few": min(1_000, len(images))}
    found: dict[str, list[float]] = {name: [] for name in sizes}
    for round_number in range(args.repetitions + 1):
        for name, size in sizes.items():
            model, epochs = make_model("bvae", dataset, network).to(device), len(images) // size
            passed = seconds(lambda m=model, s=size, e=epochs: ours(m, images[:s], args.precision, epochs=e), device)
            if round_number:
                found[name].append(passed / (epochs * (size // BATCH_SIZE) * BATCH_SIZE))
    return found | {"images": sizes}


# --------------------------------------------------------------------------------------------------------------------
# Evaluation, memory and the machine's ceilings
# --------------------------------------------------------------------------------------------------------------------


def prepare(args: argparse.Namespace) -> dict:
    """Train a run to evaluate, and make its reference."""
    from bvae.evaluation.references import make_reference, save_reference

    keep_freed_memory()
    dataset, device = data.load(args.data), pick_device(args.device)
    settings = recipe(threads=args.threads)
    settings["training"] |= {"epochs": args.epochs}
    train_run(
        Run("benchmark", settings, dataset.name, args.arm, LATENT_DIM, 0), dataset, args.folder, device=args.device
    )
    reference = make_reference(dataset, "classifier", device)
    save_reference(reference, args.folder / "reference.safetensors")
    return {"reference_images": reference.images}


def evaluation(args: argparse.Namespace) -> dict:
    """Seconds of the evaluation of a prepared run without the NLL sweep, from the moment torch is imported."""
    started = time.perf_counter()
    keep_freed_memory()
    from bvae.evaluation.evaluate import evaluate_run
    from bvae.evaluation.references import load_reference

    references = [load_reference(args.folder / "reference.safetensors")]
    found = evaluate_run(
        args.folder,
        data.load(args.data),
        references,
        importance={"samples": [1], "images": 1},
        device=pick_device(args.device),
    )
    return {"seconds": time.perf_counter() - started, "elbo": found.row["elbo"]}


def memory(args: argparse.Namespace) -> dict:
    """MiB of anonymous memory that training on a data set of the size of CelebA holds at most, above the imports."""
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    before, most, done = anonymous_mib(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.01):
            most = max(most, anonymous_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    settings = recipe(threads=args.threads, network={"architecture": "mlp", "hidden": [32]})
    settings["training"] |= {"epochs": 1, "batch_size": 128}
    settings["likelihood"] = {"name": "gaussian", "sigma": 0.1}
    with tempfile.TemporaryDirectory() as folder:
        dataset = data.load(args.data)
        train_run(Run("benchmark", settings, dataset.name, "bvae", 16, 0), dataset, Path(folder), device="cpu")
    done.set()
    watcher.join()
    size = sum(tensor.nbytes for tensor in dataset.tensors().values()) / 2**20
    return {"data_mib": size, "beyond_mib": most - before}


def anonymous_mib() -> float:
    """Memory of this process that no file stands behind, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return math.nan


def celeba(args: argparse.Namespace) -> dict:
    """Write a data set of CelebA's size, 64 pixels, of random colours."""
    generator = torch.Generator().manual_seed(0)
    blocks = {"train": args.images, "test": max(args.images // 8, 1)}
    tensors = {}
    for split, count in blocks.items():
        tensors[f"{split}_images"] = torch.empty(count, 3, 64, 64, dtype=torch.uint8)
        for part in tensors[f"{split}_images"].split(10_000):
            part.random_(256, generator=generator)
    dataset = data.make(name="celeba_sized", source="random", licence="none", **tensors)
    data.save(dataset, args.data)
    return {"images": args.images}


def ceilings(args: argparse.Namespace) -> dict:
    """What the device does at best: GFLOP/s of large products in the precisions it computes in, GB/s of a copy."""
    device = pick_device(args.device)
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    fast = pick_precision("auto", device)
    found = {"device": device_name(device), "auto_precision": fast}
    for precision in dict.fromkeys(("float32", fast)):  # without instructions for bfloat16 its products take minutes
        a = torch.randn(2048, 2048, device=device).to(getattr(torch, precision))
        times = [seconds(lambda a=a: a @ a, device) for _ in range(8)]
        found[f"gflops_{precision}"] = 2 * 2048**3 / min(times) / 1e9
    block = torch.zeros(64 * 2**20, device=device)  # 256 MiB
    target = torch.empty_like(block)
    found["copy_gb_per_second"] = (
        2 * block.nbytes / min(seconds(lambda: target.copy_(block), device) for _ in range(8)) / 1e9
    )
    return found


def costs(args: argparse.Namespace) -> dict:
    """The costs of the recipe: parameters, memory and multiply-accumulates of every arm."""
    keep_freed_memory()
    dataset = data.load(args.data)
    run = Run("benchmark", recipe(threads=args.threads), dataset.name, "bvae", LATENT_DIM, 0)
    arms = measure_costs(run, dataset, pick_device(args.device), ARMS)["arms"]
    for arm in arms.values():  # two operations each; the gradients take twice what the forward passes take
        arm["mflop_of_training"] = 3 * 2 * (arm["macs_encode"] + arm["macs_decode"]) / 1e6
    return arms


MEASUREMENTS = (training, arms, scaling, prepare, evaluation, memory, celeba, ceilings, costs)


def main() -> None:
    """Measure one thing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[measurement.__name__ for measurement in MEASUREMENTS])
    parser.add_argument("who", choices=[*TRAINERS, "-"], help="the trainer; - for everything else")
    parser.add_argument("data", type=Path)
    parser.add_argument("--arm", default="vae")
    parser.add_argument("--precision", default="float32")
    for flag, default in (("threads", 2), ("workers", 0), ("images", 4096), ("epochs", 1), ("repetitions", 5)):
        parser.add_argument(f"--{flag}", type=int, default=default)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    measurement = next(one for one in MEASUREMENTS if one.__name__ == args.what)
    print(json.dumps(measurement(args)))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
