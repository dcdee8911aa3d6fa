"""How far a study is, from the files that its runs leave: `python -m bvae status config/quick.yaml`."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bvae.errors import InputError
from bvae.report.made_from import Plan, of_runs
from bvae.report.outdated import MISSING, outdated
from bvae.study.config import load_study
from bvae.study.runs import beside, is_record, run_name
from bvae.system.files import read_json, read_lines
from bvae.system.locks import is_held

ENDED = ("done", "diverged")
STATES = (*ENDED, "outdated", "damaged", "trained", "training", "stopped", "waiting")
CLEAR = "\x1b[H\x1b[J"  # of a terminal: to its top, and empty


@dataclass(frozen=True)
class RunStatus:
    """A run's `state`, one of STATES, and what there is to say of it."""

    run: str
    state: str
    detail: str = ""


def read_status(config: str | Path, root: Path = Path()) -> tuple[dict, list[RunStatus]]:
    """The checked study of a file and the state of each of its runs below `root`.

    done: evaluated; diverged: recorded as such; outdated: made from other settings, data or versions than today's;
    damaged: its results cannot be read; trained: to be evaluated; training: a living process holds its lock; stopped:
    begun and neither finished nor at work; waiting: not begun. Raises InputError for a faulty study.
    """
    study = load_study(Path(config), root)
    plan = Plan(study, root)
    plan.contents.kept = None  # hashes that are kept are used, but not written
    return study, status_of_runs(plan, outdated(plan, [*of_runs(plan)], known_only=True))


def status_of_runs(plan: Plan, to_make: Mapping[str, str]) -> list[RunStatus]:
    """The state of each run of a plan, in its order; see `read_status`.

    `to_make` has the reason of each result of a run that is outdated or missing, by its path.
    """
    return [_status(plan.results[run_name(run)], to_make, plan.contents.root) for run in plan.runs]


def _status(results_path: str, to_make: Mapping[str, str], root: Path) -> RunStatus:
    results = root / results_path
    folder, name = results.parent, results_path.rpartition("/")[0]
    epochs = read_lines(folder / "epochs.jsonl")
    if is_held(folder / "train.lock"):
        return RunStatus(name, "training", _progress(epochs[-1]) if epochs else "in its first epoch")
    if is_record(results_path) or (folder / "model.safetensors").exists():
        try:
            status = read_json(results)["status"] if results.exists() else None
        except (InputError, KeyError, TypeError):
            return RunStatus(name, "damaged", f"{results.name}: not a run's results. Run snakemake again.")
        for path in (beside(results_path, "model.safetensors"), results_path):
            if (reason := to_make.get(path, MISSING)) != MISSING:
                return RunStatus(name, "outdated", f"{Path(path).name} {reason}")
        if status is None:
            return RunStatus(name, "trained")
        return RunStatus(name, "done" if status == "finished" else "diverged")
    log = root / f"logs/train{name.removeprefix('results/runs')}.log"
    said = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    if said or epochs or (folder / "resume.pt").exists():
        return RunStatus(name, "stopped", said[-1] if said else "")
    return RunStatus(name, "waiting")


def _progress(last: dict[str, float]) -> str:
    """The last epoch of a run, and how long the rest takes at its speed, where it has one."""
    text = f"epoch {last['epoch']:.0f}"
    if "epochs" not in last:  # of a resumed run
        return text
    speed, left = max(last["images_per_second"], 1), timedelta(seconds=round(seconds_left(last)))
    return f"{text}/{last['epochs']:.0f}  ELBO {last['elbo']:.3f}  {speed:,.0f} images/s  {left} left"


def seconds_left(last: dict[str, float]) -> float:
    """How long the rest of a training takes, by the speed of its last epoch as a line of epochs.jsonl."""
    return (last["epochs"] - last["epoch"]) * last["images"] / max(last["images_per_second"], 1)


def describe(study: dict, runs: list[RunStatus]) -> str:
    """The counts of a study's states, and a line for each run that is at work or needs a look."""
    counts = Counter(run.state for run in runs)
    said = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    shown = [run for run in runs if run.state in ("diverged", "outdated", "damaged", "training", "stopped")]
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
