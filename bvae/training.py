"""Training: AdamW, a one-cycle learning rate, whole uint8 data on the device, and `resume.pt` for killed runs."""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from bvae.data import to_batch
from bvae.errors import InputError, check_name, out_of_gpu_memory
from bvae.networks import VAE
from bvae.objective import OBJECTIVES
from bvae.system.files import as_line, whole_file, write_text
from bvae.system.processors import PRECISIONS, compute_exactly
from bvae.system.seeds import derive_seed

log = logging.getLogger(__name__)

LARGER_BATCH = "Choose a larger batch_size, or train on more images."
STEPS_BEFORE_CAPTURE = 3
UNCAPTURED = "BVAE_UNCAPTURED"
Step = Callable[[Tensor, Tensor], Tensor]
HISTORY_COLUMNS = ("epoch", "elbo", "log_likelihood", "kl", "gradient_norm", "learning_rate", "skipped_steps")


def check_batch(model: VAE, objective: str, count: int) -> None:
    """Raise InputError for a batch of one image where a batch has to have several."""
    if count > 1:
        return
    if any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in model.modules()):
        raise InputError(f"a batch has {count} image, and batch normalisation needs 2. {LARGER_BATCH}")
    if objective == "beta_tc":
        raise InputError(f"a batch has {count} image, and beta_tc compares it with the others. {LARGER_BATCH}")


def _check_arguments(model: VAE, images: Tensor, counts: Mapping[str, int], rates: Mapping[str, float]) -> None:
    layout = model.layout
    shape = (layout.channels, layout.size, layout.size)
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != shape or len(images) == 0:
        raise InputError(
            f"images: found {images.dtype} of shape {tuple(images.shape)}, wanted torch.uint8 of shape"
            f" {('n', *shape)}, from 0 to 255. Floats in [0, 1]: (255 * images).round().byte()."
        )
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name}: found {count}, wanted at least 1.")
    for name, rate in rates.items():
        if not rate > 0:
            raise InputError(f"{name}: found {rate}, wanted more than 0.")


def _undecorated(method: Callable) -> Callable:
    return getattr(method, "__wrapped__", method)


class AdamW(torch.optim.AdamW):
    """torch's AdamW, which steps by the same kernels, but does not import torch's compiler.

    torch decorates these methods for the compiler and imports it at their first call. That takes some two seconds, as
    long as a short run takes to train. We compile the loss at most, never the optimiser.
    """

    add_param_group = _undecorated(torch.optim.AdamW.add_param_group)
    zero_grad = _undecorated(torch.optim.AdamW.zero_grad)
    state_dict = _undecorated(torch.optim.AdamW.state_dict)
    load_state_dict = _undecorated(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(_undecorated(torch.optim.AdamW.step))


def build_optimizer(model: VAE, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW over all parameters of a model. On a GPU the learning rate is a tensor, which `captured` steps read."""
    parameters = list(model.parameters())
    on_gpu = parameters[0].device.type == "cuda"
    rate = torch.tensor(learning_rate, device=parameters[0].device) if on_gpu else learning_rate
    return AdamW(parameters, lr=rate, weight_decay=weight_decay, fused=True, capturable=on_gpu)


def training_step(
    model: VAE,
    optimizer: torch.optim.Optimizer,
    *,
    objective: str,
    beta: float,
    gradient_clip: float,
    precision: str,
    dataset_size: int,
    gradient_skip: float = math.inf,
    compile: bool = False,
) -> Step:
    """One step of training as a function of uint8 images (n, c, h, w) and noise (k, n, latent_dim).

    It updates the model, unless the gradient's norm is greater than `gradient_skip` or not finite (Child 2021, arXiv
    2011.10650). It returns the batch's means of the ELBO, the log-likelihood and the KL in nats, and that norm before
    clipping, (4,). Nothing in it waits for the device, so that a GPU can run it as one graph. With `compile` torch
    compiles the loss, which makes other last digits. Raises InputError for an unknown objective or precision.
    """
    check_name("objective", objective, OBJECTIVES)
    check_name("precision", precision, PRECISIONS)
    loss_of = compiled(OBJECTIVES[objective]) if compile else OBJECTIVES[objective]

    def take_step(images: Tensor, noise: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            loss, terms = loss_of(model, to_batch(images), noise, beta=beta, dataset_size=dataset_size)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), gradient_clip)
        if math.isfinite(gradient_skip):
            skips = (~(norm <= gradient_skip)).float()  # 1 where the next line is to change nothing, as for NaN
            optimizer.found_inf = skips  # type: ignore[attr-defined]  # torch's fused optimisers look for it
        optimizer.step()
        return torch.stack([*(term.detach().mean() for term in terms), norm])

    return take_step


def compiled(loss: Callable) -> Callable:
    """The loss as torch compiles it, choosing kernels by rules: by default it times some and takes the fastest.

    With timings, two runs of the same settings could take kernels with other last digits. An older torch has no such
    rules (they came after 2.8).
    """
    from torch._inductor import config  # imports the compiler, which takes some seconds

    return torch.compile(loss, options={"deterministic": True} if hasattr(config, "deterministic") else None)


def captured(take_step: Step, model: VAE, optimizer: torch.optim.Optimizer, images: Tensor, noise: Tensor) -> Step:
    """The same step as one CUDA graph: the GPU runs all of its kernels without waiting for Python before each.

    `images` and `noise` are of the shapes that every step has. The graph reads copies of them, so each step first
    copies its arguments there. To capture a step it has to be taken some times; model and optimiser are then set back,
    in place, because the graph knows their addresses.
    """
    images, noise = images.clone(), noise.clone()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moments = {of: {name: tensor.clone() for name, tensor in state.items()} for of, state in optimizer.state.items()}
    row, replay = as_graph(lambda: take_step(images, noise), images.device, before_capture=optimizer.zero_grad)
    model.load_state_dict(weights)
    for parameter, state in optimizer.state.items():
        for name, tensor in state.items():
            if parameter in moments:
                tensor.copy_(moments[parameter][name])
            else:
                tensor.zero_()

    def replay_step(batch: Tensor, draw: Tensor) -> Tensor:
        images.copy_(batch)
        noise.copy_(draw)
        replay()
        return row

    return replay_step


def as_graph(
    run: Callable[[], Tensor], device: torch.device, *, before_capture: Callable[[], None]
) -> tuple[Tensor, Callable[[], None]]:
    """A CUDA graph of what `run` does on a device: the tensor that it returns, and what fills it again.

    torch wants some runs on a stream of their own before it captures one. The stream is of that device: on a stream of
    another, the graph would be empty, and its replays would do nothing.
    """
    stream = torch.cuda.Stream(device)
    with torch.cuda.device(device):
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(STEPS_BEFORE_CAPTURE):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        before_capture()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=stream):
                row = run()
        except RuntimeError as error:  # when memory runs out within, the end of the capture fails as well
            if error.__context__ is not None and out_of_gpu_memory(error.__context__):
                raise error.__context__ from None
            raise
    return row, graph.replay


def captures(device: torch.device) -> bool:
    """Whether steps run as a CUDA graph: on a GPU, unless the variable BVAE_UNCAPTURED is set to look for a fault."""
    if device.type != "cuda":
        return False
    if os.environ.get(UNCAPTURED):
        log.info("%s is set: the steps of training are not captured", UNCAPTURED)
        return False
    return True


def train(
    model: VAE,
    images: Tensor,
    *,
    identity: tuple[str, int],
    epochs: int,
    batch_size: int,
    learning_rate: float,
    warmup: float = 0.1,
    weight_decay: float = 0.0,
    gradient_clip: float = math.inf,
    gradient_skip: float = math.inf,
    objective: str = "elbo",
    beta: float = 1.0,
    samples: int = 1,
    precision: str = "float32",
    compile: bool = False,
    resume_path: Path | None = None,
    lines_path: Path | None = None,
    fingerprint: str = "",
    resume_interval: float = 60.0,
    progress: bool = False,
) -> tuple[list[dict[str, float]], dict | None]:
    """Train `model` in place on `images`, uint8 (n, c, h, w), both on the same device.

    `identity` is (data set, seed): the data order and the noise of each epoch derive from it alone, so that arms are
    paired. An epoch has n // batch_size steps (at least one); a rest stays out, another one each epoch. The objective
    draws `samples` of z an image. `warmup` is the share of all steps in which the learning rate rises to
    `learning_rate`; it then falls along a cosine, with 0 from the first step on, with 1 never. The state is kept in
    `resume_path` after a step when the last save is `resume_interval` seconds old, and used again only when its
    `fingerprint` is the same. To `lines_path` a line of JSON is appended after each epoch: what the history has of it,
    `epochs`, `images` and `images_per_second`. `progress` shows a bar on a terminal. With a finite `gradient_skip`,
    steps whose gradient is longer or not finite are skipped; a history's averages are over the others. On a GPU a step
    is a CUDA graph (`captured`), which gives the same bytes; `compile` gives others.

    Returns the history (HISTORY_COLUMNS, training averages in nats per image), and None or, when the loss or the
    gradient of a step that was not skipped was not finite, or all steps of an epoch were skipped, where and with what
    training stopped, at the end of that epoch. Raises InputError for images or settings that it cannot train by.
    """
    counts = {"epochs": epochs, "batch_size": batch_size, "samples": samples}
    rates = {"learning_rate": learning_rate, "gradient_clip": gradient_clip, "gradient_skip": gradient_skip}
    _check_arguments(model, images, counts, rates)
    if not weight_decay >= 0:
        raise InputError(f"weight_decay: found {weight_decay}, wanted 0 or more.")
    if not 0 <= warmup <= 1:
        raise InputError(f"warmup: found {warmup}, wanted a share of the steps, from 0 to 1.")
    if objective == "iwae" and beta != 1:
        raise InputError(f"beta: found {beta} for iwae, which has none. Leave it at 1.")
    if objective != "iwae" and samples != 1:
        raise InputError(f"samples: found {samples} for {objective}, which draws one. Leave it at 1, or choose iwae.")
    device = images.device
    if device.type == "cuda":
        compute_exactly()
    if batch_size > len(images):
        log.warning("batch_size: found %d, and there are %d images: a batch has all of them", batch_size, len(images))
        batch_size = len(images)
    check_batch(model, objective, batch_size)
    steps = len(images) // batch_size
    optimizer = build_optimizer(model, learning_rate, weight_decay)
    total = epochs * steps + 1
    rising = 0.0 if warmup * total == 1 else float(warmup)  # of a single step: torch would divide by the 0 that follow
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=total, pct_start=rising, cycle_momentum=False
    )
    history: list[dict[str, float]] = []
    begun: dict = {}  # the part of an epoch that a resumed run has behind it
    if resume_path is not None and (state := _read_resume(resume_path, fingerprint, device)):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        for group in optimizer.param_groups if device.type == "cuda" else ():  # as an older state had them
            group |= {"lr": torch.as_tensor(group["lr"], device=device), "capturable": True}
        history, begun = state["history"], state["begun"]
        done = begun["trace"].shape[1]
        log.info("resumed after step %d of epoch %d/%d from %s", done, len(history) + 1, epochs, resume_path)

    if lines_path is not None:  # a resumed run may have written more than it has saved
        write_text(lines_path, "".join(map(as_line, history)))
    take_step = training_step(
        model,
        optimizer,
        objective=objective,
        beta=beta,
        gradient_clip=gradient_clip,
        gradient_skip=gradient_skip,
        precision=precision,
        dataset_size=len(images),
        compile=compile,
    )
    model.train()
    shape = (samples, batch_size, model.layout.latent_dim)  # of the noise of a step
    if captures(device):
        take_step = captured(take_step, model, optimizer, images[:batch_size], torch.zeros(shape, device=device))
    saved_at = time.monotonic()
    started_at, taken = saved_at, 0  # steps by this process
    for epoch in range(len(history) + 1, epochs + 1):
        order = torch.randperm(len(images), generator=_generator("cpu", *identity, "data order", epoch)).to(device)
        noise_generator = _generator(device, *identity, "noise", epoch)
        trace = torch.zeros(4, steps, dtype=torch.float64, device=device)  # elbo, log-likelihood, kl, gradient norm
        first, rate = 0, float(schedule.get_last_lr()[0])
        if begun:
            first, rate = begun["trace"].shape[1], begun["rate"]
            trace[:, :first] = begun["trace"]
            noise_generator.set_state(begun["noise"].cpu())
            begun = {}
        bar = {"desc": f"epoch {epoch}/{epochs}", "leave": False, "disable": None if progress else True}
        for step in tqdm(range(first, steps), initial=first, total=steps, **bar):
            batch = images[order[step * batch_size : (step + 1) * batch_size]]
            noise = torch.randn(shape, generator=noise_generator, device=device)
            trace[:, step] = take_step(batch, noise)
            schedule.step()
            taken += 1
            if resume_path is None or time.monotonic() - saved_at < resume_interval:
                continue
            if _taken(trace[:, : step + 1], gradient_skip).isfinite().all():
                part = {"trace": trace[:, : step + 1].clone(), "rate": rate, "noise": noise_generator.get_state()}
                _write_resume(resume_path, fingerprint, model, optimizer, schedule, history, part)
            saved_at = time.monotonic()
        counted = _taken(trace, gradient_skip)
        sums = torch.zeros(4, dtype=torch.float64, device=device)
        for column in counted.unbind(1):
            sums += column
        elbo, log_likelihood, kl, gradient_norm = (sums / counted.shape[1]).tolist()
        row = (epoch, elbo, log_likelihood, kl, gradient_norm, rate, steps - counted.shape[1])
        history.append(dict(zip(HISTORY_COLUMNS, row, strict=True)))
        speed = taken * batch_size / (time.monotonic() - started_at)
        log.info(
            "epoch %d/%d  elbo %.3f  log-likelihood %.3f  kl %.3f nats  gradient %.1f  %.0f images/s",
            *(epoch, epochs, elbo, log_likelihood, kl, gradient_norm, speed),
        )
        if lines_path is not None:
            _append(lines_path, history[-1] | {"epochs": epochs, "images": len(images), "images_per_second": speed})
        if not math.isfinite(elbo + gradient_norm):
            return history, _divergence(trace, epoch, gradient_skip)
    model.eval()
    return history, None


def _append(path: Path, row: dict[str, float]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(as_line(row))
    except OSError as error:
        log.warning("%s: the epoch cannot be noted, training goes on without (%s)", path, error)


def _taken(trace: Tensor, gradient_skip: float) -> Tensor:
    """The columns of a trace (4, steps) whose steps were not skipped."""
    return trace if math.isinf(gradient_skip) else trace[:, trace[3] <= gradient_skip]


def _divergence(trace: Tensor, epoch: int, gradient_skip: float) -> dict:
    """The first step of an epoch that was not finite, counted from 1, and its values as text: JSON has no NaN.

    Where all steps were skipped for finite gradients, the first step.
    """
    step = int((~trace.isfinite().all(dim=0)).int().argmax())
    elbo, _, _, norm = trace[:, step].tolist()
    found = {"epoch": epoch, "step": step + 1, "elbo": str(elbo), "gradient_norm": str(norm)}
    if _taken(trace, gradient_skip).shape[1]:
        log.error("diverged in epoch %d, step %d: elbo %s, gradient norm %s", epoch, step + 1, elbo, norm)
    else:
        message = "diverged in epoch %d, all of whose %d steps were skipped (gradient_skip: %g); the first: elbo %s, "
        log.error(f"{message}gradient norm %s", epoch, trace.shape[1], gradient_skip, elbo, norm)
    return found


def _generator(device: torch.device | str, *identity: str | int) -> torch.Generator:
    return torch.Generator(device=device).manual_seed(derive_seed(*identity))


def _write_resume(path: Path, fingerprint: str, model: VAE, optimizer, schedule, history: list, begun: dict) -> None:
    state = {
        "fingerprint": fingerprint,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "history": history,
        "begun": begun,
    }
    try:
        with whole_file(path) as temporary:
            torch.save(state, temporary)
    except (InputError, RuntimeError) as error:  # RuntimeError: how torch.save says that a disk is full
        log.warning("%s: the state cannot be saved, training goes on without (%s)", path, error)


def _read_resume(path: Path, fingerprint: str, device: torch.device) -> dict | None:
    """The saved state, or None when there is none, it is damaged, or it belongs to other settings."""
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch.load raises many types for a damaged file; all mean: start again
        log.warning("%s cannot be read (%s): training starts again", path, type(error).__name__)
        return None
    if not isinstance(state, dict) or state.get("fingerprint") != fingerprint or "begun" not in state:
        log.warning("%s belongs to other settings or data: training starts again", path)
        return None
    return state
