"""The jobs of one run of Snakemake, from its events: what is done, at work and failed, and how long the rest takes."""

import json
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bvae.report.status import seconds_left
from bvae.study.runs import first_name

TARGETS = ("all", "default")  # rules without a command
LONG = ("train", "validate", "evaluate")  # rules
LAST_BYTES = 2**14  # of a log
NO_TIME = -1.0


@dataclass
class Job:
    """A job that has begun."""

    rule: str
    name: str  # that the step takes, where it takes one
    begun: float  # in seconds since the epoch, as all times here
    output: list[Path] = field(default_factory=list)
    log: list[Path] = field(default_factory=list)
    command: str | None = None
    status: str = ""  # how its command ended, where that is known
    ended: float | None = None
    said: str = ""  # by whoever ran it

    @property
    def is_target(self) -> bool:
        """Whether it only asks for files."""
        return self.rule in TARGETS

    def epochs(self) -> dict | None:
        """What a training says of its last epoch; None where there is none."""
        if self.rule != "train" or not self.output:
            return None
        lines = last_lines(self.output[0].parent / "epochs.jsonl", 2)
        for line in reversed(lines):
            try:
                last = json.loads(line)
                if {"epoch", "epochs", "images", "images_per_second"} <= last.keys():
                    return last
            except (ValueError, AttributeError):  # half a line, of a trainer that was killed
                continue
        return None


class Jobs:
    """All jobs of a run of Snakemake."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}  # of each rule, to run
        self.begun = time.time()
        self.running: dict[int, Job] = {}
        self.finished: list[Job] = []
        self.failed: list[Job] = []
        self.errors: dict[str, Job | None] = {}  # exceptions that wait for the event of their job
        self.last = ""  # what was last said of a job that ended

    def plan(self, stats: dict[str, int], now: float) -> None:
        """Take the counts of Snakemake's plan."""
        self.counts = {rule: count for rule, count in stats.items() if rule not in (*TARGETS, "total")}
        self.begun = now

    @property
    def total(self) -> int:
        """How many jobs there are to run."""
        return max(sum(self.counts.values()), len(self.finished))

    @property
    def done(self) -> int:
        """How many of them have succeeded."""
        return len(self.finished)

    def to_do(self) -> dict[str, int]:
        """How many jobs of each rule have not succeeded, those of the rules that take longest first."""
        done = Counter(job.rule for job in self.finished)
        rest = {rule: count - done[rule] for rule, count in self.counts.items() if count > done[rule]}
        return {rule: rest[rule] for rule in (*LONG, *rest) if rule in rest}

    def begin(self, record: logging.LogRecord) -> None:
        """A job begins, perhaps again after it failed."""
        event = record.__dict__
        self.running[event["jobid"]] = job = Job(
            event["rule_name"],
            name_of(event.get("wildcards") or {}),
            record.created,
            [_path(path) for path in event.get("output") or ()],
            [_path(path) for path in event.get("log") or ()],
            event.get("shellcmd"),
        )
        self.failed = [other for other in self.failed if (other.rule, other.name) != (job.rule, job.name)]

    def finish(self, jobid: int, now: float) -> Job | None:
        """A job has succeeded."""
        job = self.running.pop(jobid, None)
        if job is not None:
            job.ended = now
            if not job.is_target:
                self.finished.append(job)
        return job

    def fail(self, record: logging.LogRecord) -> Job:
        """A job has failed."""
        event = record.__dict__
        job = self.running.pop(event["jobid"], None)
        if job is None:  # its beginning was not seen
            job = Job(event["rule_name"], "", NO_TIME, command=event.get("shellcmd"))
        job.ended = record.created
        job.log = [_path(path) for path in event.get("log") or ()] or job.log
        job.said = event.get("rule_msg") or ""
        known = [text for text, of in self.errors.items() if of is job]
        for text in known:
            job.status = status_in(text)
            del self.errors[text]
        self.failed.append(job)
        return job

    def note_error(self, text: str) -> bool:
        """Keep the exception of a command that failed for the event of its job; False if it is of no job."""
        for job in self.running.values():
            if job.command and "CalledProcessError" in text and job.command.strip() in text:
                self.errors[text] = job
                return True
        return False

    def unmatched_errors(self) -> list[str]:
        """Exceptions whose jobs had no event after all."""
        found, self.errors = list(self.errors), {}
        return found

    def seconds_left(self, now: float) -> float | None:
        """An estimate of the time that the rest takes; None while there is nothing to estimate it from."""
        lengths: dict[str, list[float]] = {}
        for job in self.finished:
            lengths.setdefault(job.rule, []).append((job.ended or now) - job.begun)
        busy = sum(map(sum, lengths.values())) + sum(now - job.begun for job in self.running.values())
        rest = 0.0
        for job in (job for job in self.running.values() if not job.is_target):
            if (last := job.epochs()) is not None:
                rest += seconds_left(last)
                lengths.setdefault(job.rule, []).append(now - job.begun + seconds_left(last))
        if not lengths or now <= self.begun or not busy:
            return None
        usual = {rule: sum(found) / len(found) for rule, found in lengths.items()}
        any_rule = sum(usual.values()) / len(usual)
        for job in self.running.values():
            if not job.is_target and job.epochs() is None:
                rest += max(usual.get(job.rule, any_rule) - (now - job.begun), 0)
        begun = Counter(job.rule for job in (*self.finished, *self.running.values(), *self.failed))
        for rule, count in self.counts.items():
            rest += max(count - begun[rule], 0) * usual.get(rule, any_rule)
        at_once = max(busy / (now - self.begun), 1)
        return rest / at_once


def name_of(wildcards: dict) -> str:
    """What a job is called, as its step takes it where it takes a name.

    >>> name_of({"recipe": "mlp-70903312", "dataset": "mnist", "arm": "vae", "latent_dim": "8", "seed": "0"})
    'mlp/mnist/vae-z8-seed0'
    >>> name_of({"dataset": "mnist", "extractor": "classifier"}), name_of({"dataset": "mnist", "latent_dim": "8"})
    ('mnist-classifier', 'mnist-z8')
    >>> name_of({"sample": "a", "lane": "1"}), name_of({})
    ('a-1', '')
    """
    rest = {key: str(value) for key, value in wildcards.items() if key != "metrics"}
    folders = []
    if "recipe" in rest:
        recipe = rest.pop("recipe")
        key = recipe.rpartition("-")[2]
        folders.append(first_name(recipe) if len(key) == 8 and set(key) <= set("0123456789abcdef") else recipe)
    if "arm" in rest and "dataset" in rest:
        folders.append(rest.pop("dataset"))
    prefixes = {"dataset": "", "arm": "", "latent_dim": "z", "seed": "seed"}
    parts = [prefix + rest.pop(key) for key, prefix in prefixes.items() if key in rest]
    parts += rest.values()
    return "/".join([*folders, *(["-".join(parts)] if parts else [])])


def _path(text: object) -> Path:
    """A path of an event, without what Snakemake says of it, as `x.json (update)`."""
    path = str(text)
    if path.endswith(")") and not Path(path).exists():
        path = path.rpartition(" (")[0] or path
    return Path(path)


def status_in(text: str) -> str:
    """How a command ended, from the exception: `exit status 3` or a signal's name.

    >>> status_in("Command 'x' returned non-zero exit status 3.")
    'exit status 3'
    >>> status_in("Command 'x' died with <Signals.SIGKILL: 9>.")
    'SIGKILL'
    """
    end = text.rpartition("'")[2]
    if "exit status " in end:
        return f"exit status {end.rpartition('exit status ')[2].strip(' .')}"
    if "<Signals." in end:
        return end.partition("<Signals.")[2].partition(":")[0]
    return end.rpartition("died with ")[2].strip(" .")


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file that are not empty; none where there is no such file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - LAST_BYTES, 0))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    lines = [line.rpartition("\r")[2].rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    return ["".join(c if c.isprintable() or c == "\t" else "?" for c in line) for line in lines if line][-count:]


def duration(seconds: float) -> str:
    """Minutes and seconds, or hours, minutes and seconds.

    >>> duration(3.4), duration(83), duration(7265)
    ('0:03', '1:23', '2:01:05')
    """
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
