"""What a machine with a GPU can show within 8 minutes: the same bytes by every way, and how fast it is.

    make gpu-check

Each section is a process with a time limit of its own and prints as it goes; the most important ones come first. With
--toy it runs every section on tiny networks and few images, on a CPU too, so that it cannot rot. It writes gpu.json and
gpu.md into --output. A section with a false `holds`, an error or no row makes the check fail, and so does one of
correctness that has not ended in its time.
"""

import argparse
import hashlib
import io
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import measure  # noqa: E402

from bvae.data import dataset as data  # noqa: E402
from bvae.errors import InputError  # noqa: E402
from bvae.networks import VAE  # noqa: E402
from bvae.report.typeset import to_markdown  # noqa: E402
from bvae.runs import LINES, Run, build_model, load_run, train_run, versions  # noqa: E402
from bvae.study.config import check_study  # noqa: E402
from bvae.system.allocator import keep_freed_memory  # noqa: E402
from bvae.system.files import make_folder, read_lines, read_yaml, write_json, write_text  # noqa: E402
from bvae.system.processors import device_name, pick_device  # noqa: E402
from bvae.training import UNCAPTURED, build_optimizer, captured, captures, train, training_step  # noqa: E402

SHAPES = {"mlp": (1, 28), "resnet-grey": (1, 28), "resnet-cifar10": (3, 32), "resnet-celeba64": (3, 64)}
OBJECTIVES = {
    "elbo": {"name": "elbo", "beta": 1},
    "iwae": {"name": "iwae", "beta": 1, "samples": 4},
    "beta_tc": {"name": "beta_tc", "beta": 4.0},
}
NETWORKS = {
    "mlp": {"architecture": "mlp", "hidden": [256, 128], "normalization": "gain", "log_variance_bound": 10},
    "conv": {"architecture": "conv", "width": 16, "neck": 8, "hidden": [64], "normalization": "batch"},
    "resnet": {"architecture": "resnet", "width": 16, "neck": 8, "hidden": [64]},
}
ROUNDS = 3  # timings of a rate, of which the median counts
SECONDS_OF_JOBS = 5.0  # in which jobs on one card take steps
LATENT_DIM = 128
Row = dict[str, object]


@dataclass(frozen=True)
class Setting:
    """Where and on what a section runs."""

    device: torch.device
    toy: bool
    folder: Path  # to write into

    @property
    def precision(self) -> str:
        """bfloat16 on a GPU; float32 on the CPU of a toy, which may have no instructions for the other."""
        return "bfloat16" if self.device.type == "cuda" else "float32"

    @property
    def batch(self) -> int:
        """Images of a step."""
        return 16 if self.toy else 128

    def count(self, images: int) -> int:
        """So many images, or two batches of a toy."""
        return min(images, 2 * self.batch) if self.toy else images

    def recipe(self, name: str) -> dict:
        """A recipe of the studies that are made for a GPU; a toy's network is tiny."""
        study = "mnist_mlp" if name == "mlp" else "paper"
        recipe = check_study(read_yaml(ROOT / f"config/{study}.yaml"), datasets=None)["recipes"][name]
        if self.toy:
            small = {"width": 4, "neck": 3} if name != "mlp" else {}
            recipe["network"] |= small | {"hidden": [8]}
        return recipe


def made_up(channels: int, size: int, count: int, *, test: int = 256) -> data.Dataset:
    """Smooth pictures of ten kinds with some noise: nothing of them is in a paper, they only take time."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(10, channels, 8, 8, generator=generator)
    tensors = {}
    for split, n in (("train", count), ("test", test)):
        labels = torch.arange(n) % 10
        small = (patterns[labels] + 0.2 * torch.rand(n, channels, 8, 8, generator=generator)).clamp(0, 1)
        images = torch.nn.functional.interpolate(small, size=(size, size), mode="bilinear")
        tensors |= {f"{split}_images": (255 * images).to(torch.uint8), f"{split}_labels": labels}
    classes = tuple("abcdefghij")
    return data.make(name="made_up", classes=classes, source="made up", licence="none", **tensors)


@contextmanager
def uncaptured(wanted: bool = True) -> Iterator[None]:
    """Steps of training one kernel at a time."""
    os.environ.pop(UNCAPTURED, None)
    if wanted:
        os.environ[UNCAPTURED] = "1"
    try:
        yield
    finally:
        os.environ.pop(UNCAPTURED, None)


def small_run(network: dict, at: Setting, **changes) -> Run:
    """A run of three epochs; `changes` are of its settings or its training."""
    settings = {"objective": OBJECTIVES["elbo"], "likelihood": {"name": "bernoulli"}, "precision": at.precision}
    settings |= {"network": network, "threads": 1} | {key: changes.pop(key) for key in list(changes) if key in settings}
    training = {"epochs": 3, "batch_size": at.batch, "learning_rate": 0.002} | changes
    return Run("check", settings | {"training": training}, "made_up", "bvae_gain", 16, 0)


def bytes_of(run: Run, dataset: data.Dataset, at: Setting, name: str, *, may_diverge: bool = False) -> str:
    """Train a run anew and return the hash of its model and its history."""
    folder = at.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    status = train_run(run, dataset, folder, device=str(at.device))
    if status != "finished" and not may_diverge:
        raise RuntimeError(f"{name}: {status}")
    return hash_of(folder)


def hash_of(folder: Path) -> str:
    """The hash of a trained run's files."""
    files = [(folder / name).read_bytes() for name in ("model.safetensors", "history.csv")]
    return hashlib.sha256(b"".join(files)).hexdigest()[:16]


# --- the same bytes --------------------------------------------------------------------------------------------------


def same_bytes(at: Setting) -> Iterator[Row]:
    """A captured step, and one kernel at a time: every architecture, and every objective."""
    dataset = made_up(1, 28, at.count(1_280))
    cases = {name: {"network": network} for name, network in NETWORKS.items()}
    cases |= {name: {"network": NETWORKS["mlp"], "objective": objective} for name, objective in OBJECTIVES.items()}
    cases["learned sigma"] = {"network": NETWORKS["mlp"], "likelihood": {"name": "gaussian", "learned": True}}
    clipped = {"gradient_clip": 1.0, "weight_decay": 0.1}
    cases["resnet, float32, clipped"] = {"network": NETWORKS["resnet"], "precision": "float32"} | clipped
    for name, case in cases.items():
        run = small_run(at=at, **case)
        hashes = []
        for wanted in (False, True):
            with uncaptured(wanted):
                hashes.append(bytes_of(run, dataset, at, "same"))
        yield {"what": name, "captured": captures(at.device), "holds": hashes[0] == hashes[1]}


def repeated(at: Setting) -> Iterator[Row]:
    """Two runs of the same settings, in each precision."""
    dataset = made_up(1, 28, at.count(1_280))
    for precision in dict.fromkeys((at.precision, "float32")):
        run = small_run(NETWORKS["resnet"], at, precision=precision)
        hashes = {bytes_of(run, dataset, at, "repeated") for _ in range(2)}
        yield {"what": f"two runs in {precision}", "holds": len(hashes) == 1}


def killed(at: Setting) -> Iterator[Row]:
    """A run that is killed in its third epoch or later, and goes on."""
    dataset = made_up(1, 28, at.count(2_560))
    run = small_run(NETWORKS["mlp"], at, epochs=30 if at.toy else 200)
    whole = bytes_of(run, dataset, at, "whole")
    folder = at.folder / "killed"
    child = subprocess.Popen([sys.executable, __file__, "to_be_killed", *arguments(at)], stdout=subprocess.DEVNULL)
    while child.poll() is None and len(read_lines(folder / LINES)) < 2:
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    interrupted = child.wait() == -signal.SIGKILL and (folder / "resume.pt").exists()
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    logging.getLogger("bvae").addHandler(handler)
    logging.getLogger("bvae").setLevel(logging.INFO)
    train_run(run, dataset, folder, device=str(at.device))
    logging.getLogger("bvae").removeHandler(handler)
    resumed = "resumed after step" in told.getvalue()
    same = hash_of(folder) == whole
    row: Row = {"what": "killed and resumed", "interrupted": interrupted, "resumed": resumed}
    yield row | {"holds": interrupted and resumed and same}


def to_be_killed(at: Setting) -> Iterator[Row]:
    """What `killed` starts and kills."""
    run = small_run(NETWORKS["mlp"], at, epochs=30 if at.toy else 200)
    train_run(run, made_up(1, 28, at.count(2_560)), at.folder / "killed", device=str(at.device), resume_interval=0.0)
    yield {"what": "not killed in time", "holds": False}


def skipped(at: Setting) -> Iterator[Row]:
    """Steps whose gradient is too long change nothing, in a graph as well: the limit is the median of an epoch."""
    dataset = made_up(1, 28, at.count(1_280))
    norms = pd.Series(norms_of(dataset, at))
    run = small_run(NETWORKS["mlp"], at, gradient_skip=float(norms.median()))
    hashes = []
    for wanted in (False, True):
        with uncaptured(wanted):
            hashes.append(bytes_of(run, dataset, at, "skipped", may_diverge=True))
    steps = pd.read_csv(at.folder / "skipped/history.csv")["skipped_steps"].sum()
    still = replace(run, settings=run.settings | {"training": run.settings["training"] | {"gradient_skip": 1e-9}})
    train_run(
        still, dataset, at.folder / "still", device=str(at.device)
    )  # every step is skipped: it counts as diverged
    model, start = load_run(at.folder / "still")[0], build_model(still, channels=1, size=28)[0]
    moved = [name for name, tensor in start.state_dict().items() if not torch.equal(tensor, model.state_dict()[name])]
    yield {"what": "only skipped steps", "moved": len(moved), "holds": not moved}
    yield {"what": "skipped steps", "steps": int(steps), "holds": bool(hashes[0] == hashes[1] and steps > 0)}


def norms_of(dataset: data.Dataset, at: Setting) -> list[float]:
    """The gradient norms of an epoch of the run whose steps `skipped` skips."""
    run = small_run(NETWORKS["mlp"], at, epochs=1)
    model = build_model(run, channels=1, size=28)[0].to(at.device).train()
    images = dataset.train_images.to(at.device)
    step = training_step(
        model,
        build_optimizer(model, 0.002, 0.0),
        objective="elbo",
        beta=1.0,
        gradient_clip=math.inf,
        precision=at.precision,
        dataset_size=len(images),
    )
    noise = torch.randn(1, at.batch, 16, device=at.device)
    return [float(step(batch, noise)[3]) for batch in images.split(at.batch) if len(batch) == at.batch]


def compiled(at: Setting) -> Iterator[Row]:
    """A compiled run comes to nearly the same place, after some seconds of compiling."""
    if at.toy and at.device.type == "cpu":  # the compiler of a CPU takes minutes; tests/test_captured.py has one
        yield {"what": "compiled", "left_out": "toy"}
        return
    dataset = made_up(1, 28, at.count(1_280))
    found = {}
    for name, more in (("plain", {}), ("compiled", {"compile": True})):
        run = small_run(NETWORKS["resnet"], at, **more)
        started = time.perf_counter()
        bytes_of(run, dataset, at, name)
        elbo = pd.read_csv(at.folder / f"{name}/history.csv")["elbo"].iloc[-1]
        found[name] = (float(elbo), time.perf_counter() - started)
    difference = abs(found["plain"][0] - found["compiled"][0])
    row: Row = {"what": "compiled", "elbo_difference": difference, "seconds": found["compiled"][1]}
    yield row | {"holds": difference < 0.02 * abs(found["plain"][0])}


# --- how fast --------------------------------------------------------------------------------------------------------


def rates(at: Setting) -> Iterator[Row]:
    """Images a second: `train`, captured, uncaptured and compiled; the bare captured step; all by the same network."""
    for name, (channels, size) in SHAPES.items():
        count = at.count({"mlp": 60_000, "resnet-grey": 30_000}.get(name, 10_000))
        dataset, recipe = made_up(channels, size, count), at.recipe(name)
        images = dataset.train_images.to(at.device)
        of_train = partial(train_rate, recipe, images, channels, size, at)
        row: Row = {"what": name}
        with uncaptured():
            row["uncaptured"] = of_train(compile=False)
        row["captured"] = of_train(compile=False)
        row["bare_captured_step"] = bare_rate(recipe, images, channels, size, at)
        if at.device.type == "cuda":
            row["captured_and_compiled"] = of_train(compile=True)
        yield row | ratios(row)


def ratios(row: Row) -> Row:
    """What the goals are about."""
    pairs = {
        "captured_over_uncaptured": ("captured", "uncaptured"),
        "compiled_over_uncaptured": ("captured_and_compiled", "uncaptured"),
        "train_over_bare": ("captured", "bare_captured_step"),
    }
    return {name: float(row[a]) / float(row[b]) for name, (a, b) in pairs.items() if a in row}  # type: ignore[arg-type]


def model_of(recipe: dict, channels: int, size: int, at: Setting) -> VAE:
    """The untrained BVAE of a recipe, on the device."""
    run = Run("check", recipe, "made_up", "bvae", LATENT_DIM, 0)
    return build_model(run, channels=channels, size=size)[0].to(at.device)


def train_rate(recipe: dict, images: Tensor, channels: int, size: int, at: Setting, *, compile: bool) -> float:
    """The median rate of some epochs of `train`, the first of which warms up."""
    lines = at.folder / f"epochs-{os.getpid()}.jsonl"
    train(
        model_of(recipe, channels, size, at),
        images,
        identity=("made_up", 0),
        epochs=ROUNDS + 1,
        batch_size=at.batch,
        learning_rate=1e-4,
        gradient_clip=1000.0,
        precision=at.precision,
        compile=compile,
        lines_path=lines,
    )
    steps = len(images) // at.batch * at.batch
    ends = [steps * (i + 1) / json.loads(line)["images_per_second"] for i, line in enumerate(lines.open())]
    return steps / pd.Series(ends).diff().iloc[1:].median()


def bare_step(recipe: dict, images: Tensor, channels: int, size: int, at: Setting) -> Callable[[], object]:
    """The captured step on one batch that is ready."""
    model = model_of(recipe, channels, size, at).train()
    optimizer = build_optimizer(model, 1e-4, 0.0)
    options = {"objective": "elbo", "beta": 1.0, "gradient_clip": 1000.0, "precision": at.precision}
    step = training_step(model, optimizer, dataset_size=len(images), **options)
    batch, noise = images[: at.batch], torch.randn(1, at.batch, LATENT_DIM, device=at.device)
    if captures(at.device):
        step = captured(step, model, optimizer, batch, noise)
    return lambda: step(batch, noise)


def bare_rate(recipe: dict, images: Tensor, channels: int, size: int, at: Setting) -> float:
    """The median rate of `bare_step`."""
    step, steps = bare_step(recipe, images, channels, size, at), 2 if at.toy else 200
    times = [measure.seconds(lambda: [step() for _ in range(steps)], at.device) for _ in range(ROUNDS + 1)]
    return steps * at.batch / pd.Series(times[1:]).median()


def others(at: Setting) -> Iterator[Row]:
    """Images a second of the benchmark's network: ours, also in float32 as the others; a plain loop; pythae."""
    if at.toy:
        measure.BATCH_SIZE = 4
    path = at.folder / "made_up.safetensors"
    data.save(made_up(1, 28, at.count(20_000)), path)
    precisions = {"ours": at.precision, "ours_float32": "float32", "loop": "float32"}
    precisions |= {"pythae": "float32"} if find_spec("pythae") else {}
    options = {"workers": 0, "images": at.count(20_000), "arm": "vae", "threads": 1 if at.toy else 2}
    found = {}
    for name, precision in precisions.items():
        who = name.partition("_")[0]
        args = argparse.Namespace(who=who, data=path, device=str(at.device), precision=precision, **options)
        rounds = [measure.training(args)["images_per_second"] for _ in range(1 if at.toy else ROUNDS)]
        found[name] = float(pd.Series(rounds).median())
    row: Row = {"what": "the network of make benchmark", **found}
    yield row | {f"ours_over_{name}": found["ours"] / found[name] for name in found if not name.startswith("ours")}


def jobs(at: Setting) -> Iterator[Row]:
    """Images a second of one, two and four jobs that take captured steps of the MLP at the same time, together."""
    for count in (1, 2, 4):
        command = [sys.executable, __file__, "one_job", *arguments(at)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        children = [subprocess.Popen(command, **pipes) for _ in range(count)]
        for child in children:
            child.stdout.readline()  # it is ready
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        said = [json.loads(child.communicate()[0].splitlines()[-1]) for child in children]
        yield {"what": f"{count} jobs", "images_per_second": sum(float(one["images_per_second"]) for one in said)}


def one_job(at: Setting) -> Iterator[Row]:
    """What `jobs` starts: it gets ready, waits for a line, and takes steps for some seconds."""
    images = made_up(1, 28, at.count(60_000)).train_images.to(at.device)
    step, steps = bare_step(at.recipe("mlp"), images, 1, 28, at), 2 if at.toy else 200
    yield {"what": "ready"}
    sys.stdin.readline()
    started, taken, passed = time.perf_counter(), 0, 0.0
    while passed < (0 if at.toy else SECONDS_OF_JOBS) or not taken:
        measure.seconds(lambda: [step() for _ in range(steps)], at.device)
        taken, passed = taken + steps, time.perf_counter() - started
    yield {"what": "job", "images_per_second": taken * at.batch / passed}


def evaluation(at: Setting) -> Iterator[Row]:
    """Seconds of the reference of a data set of 60,000 images, and of evaluating one run with all metrics."""
    from bvae.evaluation import protocol
    from bvae.evaluation.evaluate import evaluate_run
    from bvae.evaluation.metrics import TASKS
    from bvae.evaluation.references import make_reference

    dataset = made_up(1, 28, 1_000 if at.toy else 60_000, test=1_000 if at.toy else 10_000)
    run = Run("check", at.recipe("resnet-grey"), "made_up", "bvae", 16 if at.toy else LATENT_DIM, 0)
    training = {"epochs": 1, "batch_size": at.batch, "learning_rate": 0.001}
    run = replace(run, settings=run.settings | {"training": training, "precision": at.precision})
    train_run(run, dataset, at.folder / "run", device=str(at.device))
    if at.toy:
        protocol.CLASSIFIER_STEPS = 20
    started = time.perf_counter()
    references = [make_reference(dataset, "classifier", at.device)]
    yield {"what": "reference", "seconds": time.perf_counter() - started}
    samples, images = ([1, 2], 10) if at.toy else ([1, 10, 100, 1000], 2_000)
    seconds: dict[str, float] = {}
    for name, task in TASKS.items():
        TASKS[name] = replace(task, compute=partial(timed, seconds, name, task.compute))
    started = time.perf_counter()
    importance = {"samples": samples, "images": images}
    evaluate_run(at.folder / "run", dataset, references, importance=importance, device=at.device, protocol=2)
    yield {"what": "evaluation", "seconds": time.perf_counter() - started}
    yield from ({"what": f"of which {name}", "seconds": found} for name, found in seconds.items())


def timed(seconds: dict[str, float], name: str, compute: Callable[[object], dict], trained: object) -> dict:
    """What a task returns; its seconds are entered."""
    started = time.perf_counter()
    found = compute(trained)
    seconds[name] = time.perf_counter() - started
    return found


def quick(at: Setting) -> Iterator[Row]:
    """Seconds of the quick study from nothing, without figures; a toy only plans it."""
    if find_spec("snakemake") is None:
        yield {"what": "quick study", "left_out": "Snakemake is not installed"}
        return
    folder = at.folder / "quick"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns("results", "resources", ".*"))
    command = [sys.executable, "-m", "snakemake", "--configfile", "config/quick.yaml", *(["-n"] if at.toy else [])]
    target = "results/studies/quick/tables/table1.csv"
    started = time.perf_counter()
    done = subprocess.run([*command, "--", target], cwd=folder, capture_output=True, text=True, check=False)
    row: Row = {"what": "quick study", "seconds": time.perf_counter() - started, "holds": done.returncode == 0}
    yield row if done.returncode == 0 else row | {"said": (done.stdout + done.stderr)[-500:]}


Section = Callable[[Setting], Iterator[Row]]
# The sections and their limits in seconds. Those of correctness run at once, since nobody reads their times.
CORRECTNESS: dict[Section, int] = {same_bytes: 90, repeated: 40, killed: 50, skipped: 40, compiled: 90}
SPEED: dict[Section, int] = {rates: 120, others: 45, jobs: 50, evaluation: 75, quick: 75}
SECTIONS = CORRECTNESS | SPEED
PARTS = {section.__name__: section for section in (*SECTIONS, to_be_killed, one_job)}


def arguments(at: Setting) -> list[str]:
    """What a child is told of its setting."""
    return ["--folder", str(at.folder), "--device", str(at.device), *(["--toy"] if at.toy else [])]


def check(at: Setting, output: Path, only: Sequence[str] = ()) -> bool:
    """Run the sections, print their rows and write them after each; whether none failed."""
    found: dict[str, dict] = kept_sections(at, output) if only else {}
    limits = {section.__name__: limit for section, limit in SECTIONS.items() if not only or section.__name__ in only}
    at_once = {section.__name__ for section in CORRECTNESS} & limits.keys() if at.device.type == "cuda" else set()
    with ThreadPoolExecutor() as pool:
        begun = {name: pool.submit(run_section, name, at, limits[name]) for name in limits if name in at_once}
        for name, limit in limits.items():
            print(f"{name}: at most {limit} s", flush=True)
            one = begun[name].result() if name in begun else run_section(name, at, limit)
            found[name] = one
            print(*(f"  {json.dumps(row)}" for row in one["rows"]), f"  {one['state']}", sep="\n", flush=True)
            write(found, at, output)
    whole = {section.__name__ for section in CORRECTNESS}
    failed = [
        name
        for name, one in found.items()
        if not one["rows"] or one["state"].startswith(("failed", "stopped") if name in whole else "failed")
    ]
    return not failed and all(row.get("holds", True) for one in found.values() for row in one["rows"])


def kept_sections(at: Setting, output: Path) -> dict[str, dict]:
    """What an earlier check on the same kind of device, by the same versions, has written of its sections."""
    path = output / "gpu.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return before["sections"] if before.items() >= about(at).items() else {}


def about(at: Setting) -> dict:
    """The device and the versions."""
    return {"device": device_name(at.device), "toy": at.toy, "versions": versions()}


def run_section(name: str, at: Setting, limit: int) -> dict:
    """A section in a process of its own, which is killed after `limit` seconds; a toy is not."""
    started = time.perf_counter()
    command = [sys.executable, __file__, name, *arguments(at)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:
        try:
            text, _ = child.communicate(timeout=None if at.toy else limit)
            state = "done" if child.returncode == 0 else f"failed with exit status {child.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            text, state = child.communicate()[0], f"stopped after {limit} s"
    rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return {"state": state, "seconds": time.perf_counter() - started, "rows": rows}


def write(found: dict[str, dict], at: Setting, output: Path) -> None:
    """gpu.json and gpu.md, with the device and the versions."""
    write_json(output / "gpu.json", about(at) | {"sections": found})
    where = f"{device_name(at.device)}, torch {versions()['torch']}"
    parts = [f"# What a GPU does with this suite\n\n{where}. Rates are images/s."]
    for name, one in ((name, found[name]) for name in PARTS if name in found):
        docstring = (PARTS[name].__doc__ or "").strip()
        rows = pd.DataFrame([{key: shown(value) for key, value in row.items()} for row in one["rows"]]).fillna("")
        body = to_markdown(rows) if len(rows) else ""
        parts.append(f"## {name}: {one['state']}, {one['seconds']:.0f} s\n\n{docstring}\n\n{body}".rstrip())
    write_text(output / "gpu.md", "\n\n".join(parts) + "\n")


def shown(value: object) -> str:
    """A value of a row as it is printed."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def main() -> int:
    """The check, or one section of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="?", choices=list(PARTS), help="this section in this process")
    parser.add_argument(
        "--only",
        nargs="*",
        default=[],
        choices=[one.__name__ for one in SECTIONS],
        help="these sections; of the others, what --output has stays",
    )
    parser.add_argument("--toy", action="store_true", help="tiny networks and few images, without time limits")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--output", type=Path, default=ROOT / "results/published")
    args = parser.parse_args()
    device = pick_device(args.device)
    if device.type != "cuda" and not args.toy:
        print("error: found no GPU. Use --toy to try the check on a CPU.", file=sys.stderr)
        return 1
    if args.section:
        keep_freed_memory()
        torch.set_num_threads(1 if args.toy else 4)
        for row in PARTS[args.section](Setting(device, args.toy, args.folder)):
            print(json.dumps(row), flush=True)
        return 0
    make_folder(args.output)
    with tempfile.TemporaryDirectory() as folder:
        return 0 if check(Setting(device, args.toy, Path(folder)), args.output, args.only) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"error: {error}")
