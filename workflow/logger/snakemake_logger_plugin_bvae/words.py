"""What is printed of jobs, as text."""

import json
import re
import signal
from pathlib import Path

from bvae.errors import InputError
from bvae.evaluation.metrics import run_metrics
from bvae.system.files import read_facts, read_json

from .jobs import LONG, NO_TIME, Job, Jobs, duration, last_lines

LOG_LINES = 15  # of a job that failed
INDENT = "    "


def plan_in_words(jobs: Jobs) -> str:
    """How many jobs there are, and how many of the rules that take longest."""
    long = {rule: jobs.counts[rule] for rule in LONG if rule in jobs.counts}
    rest = jobs.total - sum(long.values())
    parts = [f"{count} {rule}" for rule, count in long.items()] + ([f"{rest} others"] if long and rest else [])
    return f"{jobs.total} steps to do{': ' if parts else ''}{', '.join(parts)}"


def finished_line(jobs: Jobs, job: Job) -> str:
    """One line of a job that has succeeded: its number, the time since the start, its name, how long it took."""
    size = len(str(jobs.total))
    head = f"[{jobs.done:{size}}/{jobs.total}] {duration((job.ended or 0) - jobs.begun):>7}"
    took = duration((job.ended or 0) - job.begun)
    return f"{head}  {job.rule:12} {job.name:30}  {took:>7}  {result_of(job)}".rstrip()


def result_of(job: Job) -> str:
    """What a training or an evaluation has come to; empty where nothing is to be said."""
    try:
        if job.rule == "train":
            return "" if read_facts(job.output[0])["status"] == "finished" else "diverged"
        if job.rule in ("evaluate", "validate"):
            row = read_json(job.output[0])
            if row["status"] != "finished":
                return "diverged"
            return f"ELBO {row['elbo']:.{run_metrics()['elbo'].decimals}f}"
    except (InputError, OSError, KeyError, IndexError, TypeError, ValueError, json.JSONDecodeError):
        return ""  # the line is for people: the step has checked its files
    return ""


def failure(job: Job) -> str:
    """A job that failed: its rule and name, how it ended, the path of its log and the log's last lines."""
    took = "" if job.begun == NO_TIME else f" after {duration((job.ended or 0) - job.begun)}"
    ending = status_in_words(job.status) or " ".join(job.said.split())
    lines = [f"FAILED  {job.rule} {job.name}".rstrip() + took + (f": {ending}" if ending else "")]
    if ending and job.said and job.status:
        lines.append(f"{INDENT}{' '.join(job.said.split())}")
    for path in job.log:
        lines += _of_log(path, job)
    if not job.log:
        lines.append(f"{INDENT}It has no log. Its command: {' '.join((job.command or 'unknown').split())}")
    return "\n".join(lines)


def _of_log(path: Path, job: Job) -> list[str]:
    if not path.exists():
        return [f"{INDENT}log {path}: was not written"]
    if job.begun != NO_TIME and path.stat().st_mtime < job.begun - 2:
        return [f"{INDENT}log {path}: is of an earlier attempt, nothing was written this time"]
    said = last_lines(path, LOG_LINES)
    return [f"{INDENT}log {path}{':' if said else ': is empty'}", *(f"{INDENT}| {line}" for line in said)]


def status_in_words(status: str) -> str:
    """How a command ended, with what that may mean.

    >>> status_in_words("exit status 3"), status_in_words("exit status 137"), status_in_words("SIGTERM")
    ('exit status 3', 'exit status 137 (killed by SIGKILL; out of memory?)', 'ended by SIGTERM')
    """
    name, number = status, re.fullmatch(r"exit status (\d+)", status)
    if number:
        try:
            name = signal.Signals(int(number[1]) - 128).name
        except ValueError:
            return status
    if not name.startswith("SIG"):
        return status
    text = "killed by SIGKILL; out of memory?" if name == "SIGKILL" else f"ended by {name}"
    return f"{status} ({text})" if number else text
