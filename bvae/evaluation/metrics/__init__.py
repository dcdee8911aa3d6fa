"""The metrics of a run: a file of this folder for each task, found by itself.

A new metric is a new file here, with one function that `task` decorates. It takes a Trained (../trained.py) and returns
numbers by name; the decorator is given a record of each. Nothing else has to be edited: results of runs, tables, the
direction of claims and docs/model.md are made from TASKS. A file whose name begins with "_" holds none.

Tasks import torch inside their functions: Snakemake and `--help` read this folder and do without it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bvae.errors import InputError
from bvae.system.records import check_version, enter, import_files

if TYPE_CHECKING:
    from bvae.evaluation.trained import Trained

OF_CONTROLS = ("reconstruction", "classification")  # tasks whose measures the controls share
OF_UNTRAINED = (*OF_CONTROLS, "probes")  # likewise of the untrained encoder
USES = ("importance", "references")  # what a task may depend on besides the model and the data
ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}


@dataclass(frozen=True)
class Metric:
    """One number of a run: what it means, and how tables and claims take it."""

    name: str  # in results of runs, in csv files and in claims
    meaning: str
    unit: str = ""
    better: str | None = None  # "lower" or "higher"; None: neither, so that no claim compares it
    source: str = ""  # of the definition
    header: str | None = None  # in printed tables, where the arrow of `better` follows; None: in csv files alone
    decimals: int | None = None  # printed; None: four significant digits
    factor: float = 1  # of the printed number
    table: int | None = 1  # whose column it is; None: of no table but that of all runs
    documented: str = ""  # what docs/model.md calls it: metrics of one name there share a line
    optional: bool = False  # there are runs without it; of the others a run without a number is an error
    any_features: bool = False  # a column of Table 2, where `fd_samples` stands for that of each extractor

    @property
    def heading(self) -> str | None:
        """The header with its arrow."""
        return self.header and self.header + ARROWS[self.better]


@dataclass(frozen=True)
class Task:
    """What is computed together: a function of a Trained, and the metrics that it returns."""

    name: str  # that of its function
    title: str  # in the documentation
    text: str  # its docstring
    version: int  # of its numbers
    metrics: Sequence[Metric]
    uses: Sequence[str]  # what it depends on besides the model and the data, as names in Trained.settings
    order: int  # of its columns
    # numbers by name; under "empty", why a metric is None or not there; under "per_image", tensors (n,) by name
    compute: "Callable[[Trained], dict[str, Any]]"
    protocol: int = 1  # the first protocol whose studies compute it


TASKS: dict[str, Task] = {}  # by name, in the order of their columns


def task(
    *,
    title: str,
    version: int,
    metrics: Sequence[Metric],
    uses: Sequence[str] = (),
    order: int = 100,
    protocol: int = 1,
) -> Callable:
    """Enter the decorated function in TASKS. Raise `version` by one when a change alters its numbers.

    Only this task is then computed again. Tables show its columns after those of tasks with a lower `order`. A task of
    `protocol` 2 is not computed in studies of protocol 1. Raises InputError for an argument that has no meaning.
    """

    def decorate(compute: Callable) -> Callable:
        name, text = compute.__name__, (compute.__doc__ or "").strip()
        check_version(version, compute.__module__)
        for fault in _faults(metrics, uses, protocol):
            raise InputError(f"{compute.__module__}: {fault}")
        names = Counter((metric.any_features, metric.name) for metric in (*all_metrics(), *metrics))
        for _, taken in (found for found, count in names.items() if count > 1):
            raise InputError(f"{compute.__module__}: the name '{taken}' is taken by another metric: choose another")
        enter(TASKS, Task(name, title, text, version, metrics, uses, order, compute, protocol), compute.__module__)
        return compute

    return decorate


def _faults(metrics: Sequence[Metric], uses: Sequence[str], protocol: int) -> Iterator[str]:
    """What is wrong with the arguments of `task`."""
    for use in (use for use in uses if use not in USES):
        yield f"found '{use}' among what it uses, wanted some of {', '.join(USES)}"
    if protocol not in (1, 2):
        yield f"found the protocol {protocol!r}, wanted 1 or 2"
    for metric in metrics:
        if metric.better not in ARROWS:
            yield f"the better side of '{metric.name}' is {metric.better!r}, wanted 'lower', 'higher' or None"
        if metric.table not in (None, 1, 2):
            yield f"the table of '{metric.name}' is {metric.table!r}, wanted 1, 2 or None"


def all_metrics() -> list[Metric]:
    """The metrics of all tasks, in the order of the tables' columns."""
    return [metric for found in TASKS.values() for metric in found.metrics]


def run_metrics() -> dict[str, Metric]:
    """Those that a run has, by name: what a claim may be about."""
    return {metric.name: metric for metric in all_metrics() if not metric.any_features}


def tasks_of(status: str, *, tuning: bool = False, protocol: int = 1) -> list[str]:
    """The tasks by which a run is evaluated.

    A run that diverged has only its size, and a tuning study needs only the ELBO. `protocol` is that of the study.
    """
    if status != "finished":
        return ["size"]
    return ["size", "reconstruction"] if tuning else [name for name in TASKS if TASKS[name].protocol <= protocol]


def versions(tasks: Iterable[str]) -> dict[str, int]:
    """The versions of some tasks by their names."""
    return {name: TASKS[name].version for name in tasks}


import_files(__name__, __path__)
TASKS = dict(sorted(TASKS.items(), key=lambda found: found[1].order))
