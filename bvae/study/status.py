"""How far a study is, from the files that its runs leave: `python -m bvae status config/quick.yaml`."""

import re
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bvae.study.config import check_study, known_datasets
from bvae.study.runs import expand_runs, results_paths, run_name
from bvae.system.files import read_json, read_yaml
from bvae.system.locks import is_held

ENDED = ("done", "diverged")
STATES = (*ENDED, "trained", "training", "stopped", "waiting")
EPOCH = re.compile(
    r"epoch (?P<epoch>\d+)/(?P<epochs>\d+)  elbo (?P<elbo>\S+) .* (?P<speed>\d+) images/s$"
)  # of train()
CLEAR = "\x1b[H\x1b[J"  # of a terminal: to its top, and empty


@dataclass(frozen=True)
class RunStatus:
    """A run's `state`, one of STATES, and what there is to say of it."""

    run: str
    state: str
    detail: str = ""


def read_status(config: str | Path, root: Path = Path()) -> tuple[dict, list[RunStatus]]:
    """The checked study of a file and the state of each of its runs below `root`.

    done: evaluated; diverged: recorded as such; trained: to be evaluated; training: a living process holds its lock;
    stopped: begun and neither finished nor at work; waiting: not begun. Raises InputError for a faulty study.
    """
    study = check_study(read_yaml(config), datasets=known_datasets(root / "workflow"))
    paths = results_paths(study, root)
    return study, [_status(run, paths[run_name(run)], root) for run in expand_runs(study)]


def _status(run: dict, results_path: str, root: Path) -> RunStatus:
    results = root / results_path
    folder, name = results.parent, results_path.rpartition("/")[0]
    log = root / f"logs/train{name.removeprefix('results/runs')}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    if results.exists():
        return RunStatus(name, "done" if read_json(results)["status"] == "finished" else "diverged")
    if is_held(folder / "train.lock"):
        return RunStatus(name, "training", _progress(lines, root / f"resources/data/{run['dataset']}.safetensors"))
    if (folder / "model.safetensors").exists():
        return RunStatus(name, "trained")
    if lines or (folder / "resume.pt").exists():
        return RunStatus(name, "stopped", lines[-1] if lines else "")
    return RunStatus(name, "waiting")


def _progress(lines: list[str], data: Path) -> str:
    """The last epoch of a training log, and how long the rest takes at its speed."""
    for line in reversed(lines):
        if found := EPOCH.search(line):
            epoch, epochs, speed = (int(found[name]) for name in ("epoch", "epochs", "speed"))
            text = f"epoch {epoch}/{epochs}  ELBO {found['elbo']}  {speed:,} images/s"
            if images := _images(data):
                text += f"  {timedelta(seconds=round((epochs - epoch) * images / max(speed, 1)))} left"
            return text
    return "in its first epoch"


def _images(data: Path) -> int:
    """How many training images a data set file holds, 0 where it cannot be read: its header alone is."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(data, "numpy") as file:
            return file.get_slice("train_images").get_shape()[0]
    except (OSError, SafetensorError):
        return 0


def describe(study: dict, runs: list[RunStatus]) -> str:
    """The counts of a study's states, and a line for each run that is at work or needs a look."""
    counts = Counter(run.state for run in runs)
    said = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    shown = [run for run in runs if run.state in ("diverged", "training", "stopped")]
    width = max((len(run.run) for run in shown), default=0)
    lines = [f"{run.run:{width}}  {run.state:8}  {run.detail}".rstrip() for run in shown]
    return "\n".join([f"{study['study']}: {len(runs)} runs: {said}", *lines])


def show(config: str | Path, every: float | None) -> None:
    """Print the status, again each `every` seconds while there are runs to come."""
    while True:
        study, runs = read_status(config)
        print(f"{CLEAR if every else ''}{describe(study, runs)}", flush=True)
        if not every or all(run.state in ENDED for run in runs):
            return
        time.sleep(every)
