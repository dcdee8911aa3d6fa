"""The training histories of a study as TensorBoard events."""

import csv
import logging
import shlex
import time
from pathlib import Path

from bvae.errors import InputError
from bvae.report.status import ENDED, read_status
from bvae.system.files import make_folder, read_lines

log = logging.getLogger(__name__)


def read_history(folder: Path) -> list[dict[str, float]]:
    """The epochs of the run in `folder`: of its `history.csv`, or while it trains of the lines that it appends.

    Each has the columns of `bvae.training.HISTORY_COLUMNS`, averages in nats per image.
    """
    try:
        with (folder / "history.csv").open(encoding="utf-8", newline="") as file:
            return [{name: float(value) for name, value in line.items()} for line in csv.DictReader(file)]
    except FileNotFoundError:
        return read_lines(folder / "epochs.jsonl")


def write_events(config: str | Path, output: Path, every: float | None, root: Path = Path()) -> int:
    """Write a folder of TensorBoard events for each run of a study that has epochs; returns how many epochs.

    The folder is `<output>/<recipe>-<key>/<data set>/<arm>-z<latent dim>-seed<seed>`; events that it holds are
    replaced. With `every`, look again after so many seconds and add what is new, until every run has ended. Raises
    InputError for a faulty study, for an output that cannot be a folder, and where tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("tensorboard is not installed, and its events need it. Run: pip install tensorboard") from None
    from bvae.training import HISTORY_COLUMNS

    read_status(config, root)  # a faulty study is told before a folder is made
    make_folder(output)
    written: dict[str, int] = {}
    total = -1
    while True:
        _, runs = read_status(config, root)
        for run in runs:
            history, count = read_history(root / run.run), written.get(run.run, 0)
            if len(history) <= count:
                continue
            folder = output / run.run.removeprefix("results/runs/")
            for old in folder.glob("events.out.tfevents.*") if count == 0 else ():
                old.unlink()
            with SummaryWriter(str(folder)) as writer:
                for line in history[count:]:
                    for name, value in line.items():
                        if name in HISTORY_COLUMNS and name != "epoch":
                            writer.add_scalar(f"training/{name}", value, int(line["epoch"]))
            written[run.run] = len(history)
        before, total = total, sum(written.values())
        if total > before:
            log.info("%d epochs in %s: tensorboard --logdir %s", total, output, shlex.quote(str(output)))
        if not every or all(run.state in ENDED for run in runs):
            return total
        time.sleep(every)
