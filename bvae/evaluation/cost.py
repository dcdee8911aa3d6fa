"""What each arm costs: parameters, memory, multiply-accumulates and speed, measured side by side in one process."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np
import safetensors.torch
import torch
from torch.utils.flop_counter import FlopCounterMode

import bvae
from bvae.arms import ARMS
from bvae.data import Dataset, to_batch
from bvae.evaluation import protocol
from bvae.evaluation.trained import BATCH
from bvae.networks import VAE, log_variance_parameters, parameter_breakdown
from bvae.runs import Run, build_model, versions
from bvae.system.processors import device_name, pick_precision
from bvae.training import build_optimizer, captured, captures, check_batch, training_step

MB = 2**20


def measure_costs(run: Run, dataset: Dataset, device: torch.device, arms: Iterable[str] = ()) -> dict:
    """The cost of some arms at the settings of `run`, whose own arm does not matter. Nothing needs to be trained.

    The matched VAE is always among them, because the others are compared with it; names that no arm has are not.

    Nothing else may run on the machine meanwhile. Training is timed at the recipe's batch size and precision, encoding
    and decoding in evaluation at 500 images; images a second are the median of COST_ROUNDS timings, with quartiles.
    """
    torch.set_num_threads(run.settings["threads"])
    precision = pick_precision(run.settings["precision"], device)
    costs: dict[str, dict] = {}
    timed: dict[str, dict[str, tuple[Callable[[], object], int]]] = {}
    models: dict[str, VAE] = {}
    asked = {*arms, "vae"}
    for arm in (arm for arm in ARMS if arm in asked):
        model, _ = build_model(replace(run, arm=arm), channels=dataset.channels, size=dataset.size)
        models[arm] = model = model.to(device)
        take_step, capture, batch_size = _training(model, run, dataset, precision, device)
        images = to_batch(dataset.test_images[:BATCH].to(device))
        with torch.inference_mode():
            z = model.eval().encode(images)[0]
        costs[arm] = _size(model) | {
            "macs_encode": _macs(model.encode, images[:1]),
            "macs_decode": _macs(model.decode, z[:1]),
            "peak_training_mb": _peak_of_training(model, take_step, device) / MB,
        }
        if ARMS[arm].version > 1:  # the first is not written, here and in the settings of runs
            costs[arm]["version"] = ARMS[arm].version
        timed[arm] = {
            "training": (capture(), batch_size),  # after the peak: a graph has memory of its own
            "encoding": (partial(model.encode, images), len(images)),
            "decoding": (partial(model.decode_mean, z), len(z)),
        }
    for what in ("training", "encoding", "decoding"):
        speeds: dict[str, list[float]] = {arm: [] for arm in timed}
        for model in models.values():
            model.train(what == "training")
        for _ in range(protocol.COST_ROUNDS):
            for arm, jobs in timed.items():
                speeds[arm].append(_images_per_second(*jobs[what], device, inference=what != "training"))
        for arm, found in speeds.items():
            low, middle, high = np.quantile(found, (0.25, 0.5, 0.75)).tolist()
            costs[arm][f"images_per_second_{what}"] = middle
            costs[arm][f"images_per_second_{what}_quartiles"] = [low, high]
    return {
        "recipe": run.recipe,
        "settings": run.settings,
        "dataset": dataset.name,
        "dataset_sha256": dataset.sha256,
        "latent_dim": run.latent_dim,
        "device": device_name(device),
        "precision": precision,
        "batch_size": batch_size,
        "versions": versions(),
        "training_version": bvae.TRAINING_VERSION,
        "arms": costs,
    }


def _size(model: VAE) -> dict:
    """Parameters by line, the model's size, and that of what training keeps: weights, gradients, two moments."""
    row = {f"parameters_{line}": count for line, count in parameter_breakdown(model).items()}
    tensors = {name: tensor.detach().cpu() for name, tensor in model.named_parameters()} | dict(model.named_buffers())
    count = row["parameters_total"]
    return row | {
        "head_share": log_variance_parameters(model) / count,
        "model_mb": 4 * count / MB,
        "file_mb": len(safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})) / MB,
        "training_state_mb": 4 * 4 * count / MB,
    }


def _training(
    model: VAE, run: Run, dataset: Dataset, precision: str, device: torch.device
) -> tuple[Callable[[], object], Callable[[], Callable[[], object]], int]:
    """A step of training on fixed images as a function without arguments, what captures it, and its batch size."""
    settings = run.settings["training"]
    images = dataset.train_images[: settings["batch_size"]].to(device)
    check_batch(model, run.settings["objective"]["name"], len(images))
    noise = torch.randn(run.settings["objective"].get("samples", 1), len(images), run.latent_dim, device=device)
    optimizer = build_optimizer(model, settings["learning_rate"], settings["weight_decay"])
    take_step = training_step(
        model,
        optimizer,
        objective=run.settings["objective"]["name"],
        beta=run.settings["objective"]["beta"],
        gradient_clip=settings["gradient_clip"],
        gradient_skip=settings.get("gradient_skip", math.inf),
        precision=precision,
        dataset_size=len(dataset.train_images),
        compile=settings.get("compile", False),
    )

    def capture() -> Callable[[], object]:
        """The step as training takes it: on a GPU as a graph."""
        step = captured(take_step, model, optimizer, images, noise) if captures(device) else take_step
        return lambda: step(images, noise)

    return lambda: take_step(images, noise), capture, len(images)


def _macs(run: Callable[[torch.Tensor], object], x: torch.Tensor) -> int:
    """Multiply-accumulates of linear layers and convolutions; torch's counter counts each as two operations."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        run(x)
    return counter.get_total_flops() // 2


def _peak_of_training(model: VAE, take_step: Callable[[], object], device: torch.device) -> int:
    """Bytes: the model, its optimiser's moments, and the most that a step holds above them (gradients, activations)."""
    model.train()
    take_step()  # the optimiser makes its moments in the first
    state = 3 * sum(parameter.nbytes for parameter in model.parameters())
    for parameter in model.parameters():
        parameter.grad = None
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        take_step()
        return state + torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        take_step()
    # not public: the public events merge allocations with what made them
    events = profiler.profiler.kineto_results.events()
    held = peak = 0
    for event in sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return state + peak


def _images_per_second(run: Callable[[], object], images: int, device: torch.device, *, inference: bool) -> float:
    """Of as many calls in a row as take COST_SECONDS, at least one, until the device has finished them all."""

    def seconds(calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    with torch.inference_mode(inference):
        calls, elapsed = 1, seconds(1)
        if elapsed < protocol.COST_SECONDS:
            calls = math.ceil(protocol.COST_SECONDS / elapsed)
            elapsed = seconds(calls)
    return calls * images / elapsed
