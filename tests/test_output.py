"""What a study prints: while it runs (workflow/logger), when a job fails, and at its end (`python -m bvae summary`)."""

import fcntl
import io
import json
import logging
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from itertools import count, takewhile
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_logger_plugin_bvae import LogHandler
from snakemake_logger_plugin_bvae.jobs import Jobs

from bvae import __main__ as command_line
from bvae.errors import LOGS_ARE_SHOWN
from bvae.evaluation.metrics import run_metrics
from bvae.report.claims import write_claims
from bvae.report.made_from import Plan, made_from, note_made_from
from bvae.report.summary import summarise_study
from bvae.report.tables import write_tables
from bvae.report.tuning import write_tuning
from bvae.study.runs import write_sums
from bvae.system.files import sha256_of_file, write_json, write_tensors, write_text
from helpers.checkouts import ROOT, environment
from helpers.run_results import lost, run_row, write_study
from helpers.tuning_results import result, write_results

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*\b(?:3[0-7]|9[0-7])m")
KILLED = "died with <Signals.SIGKILL: 9>."


# --- Events, as Snakemake 9.27.1 sends them ---------------------------------------------------------------------------


class Events:
    """Sends a handler the records that Snakemake sends, at times of our own."""

    def __init__(self, handler: LogHandler):
        self.handler, self.ids, self.commands = handler, count(1), {}
        self.now = time.time()

    def send(self, message: str | None = None, level: int = logging.INFO, **fields: object) -> None:
        record = logging.LogRecord("snakemake.logging", level, "x.py", 1, str(message), None, None)
        record.__dict__.update(fields, created=self.now)
        if self.handler.filter(record):
            self.handler.handle(record)

    def start(self, **stats: int) -> None:
        self.send("Workflow has started!", event=LogEvent.WORKFLOW_STARTED, configfiles=[Path("config/small.yaml")])
        self.send("Building DAG of jobs...")
        stats |= {"all": 1, "default": 1}
        self.send("Job stats:", event=LogEvent.RUN_INFO, stats=stats | {"total": sum(stats.values())})
        self.send("Select jobs to execute...")

    def begin(self, rule: str, output: Path | str = "x", log: Path | str | None = None, **wildcards: str) -> int:
        jobid = next(self.ids)
        self.commands[jobid] = (rule, f"python -m bvae {rule} {output} --log {log}", [str(log)] if log else [])
        self.send("Execute 1 jobs...", event=LogEvent.JOB_STARTED, jobs=[jobid])
        self.send(
            f" Rule: {rule}, Jobid: {jobid}",
            event=LogEvent.JOB_INFO,
            jobid=jobid,
            rule_msg=None,
            rule_name=rule,
            output=[str(output)],
            log=self.commands[jobid][2],
            wildcards=wildcards,
            shellcmd=self.commands[jobid][1],
        )
        return jobid

    def finish(self, jobid: int) -> None:
        self.send(f"Finished jobid: {jobid}", event=LogEvent.JOB_FINISHED, job_id=jobid)
        self.send(event=LogEvent.PROGRESS, done=1, total=2)

    def fail(self, jobid: int, ending: str) -> None:
        self.raised(jobid, ending)
        rule, command, log = self.commands[jobid]
        self.send(
            f"Error in rule {rule}, jobid: {jobid}",
            logging.ERROR,
            event=LogEvent.JOB_ERROR,
            rule_name=rule,
            rule_msg=None,
            jobid=jobid,
            log=log,
            aux={},
            shellcmd=command,
        )

    def raised(self, jobid: int, ending: str) -> None:
        text = 'RuleException:\nCalledProcessError in file "Snakefile", line 3:\nCommand '
        text += f"'{self.commands[jobid][1]}' {ending}"
        self.send(text, logging.ERROR, event=LogEvent.ERROR, exception="RuleException")

    def end(self) -> None:
        self.send("Elapsed time: 0:00:03")
        if self.handler.jobs.failed:
            self.send("Exiting because a job execution failed. Look above for error messages", logging.ERROR)
            text = "WorkflowError:\nAt least one job did not complete successfully."
            self.send(text, logging.ERROR, event=LogEvent.ERROR, exception="WorkflowError")
        self.handler.close()


def handler(**settings: object) -> LogHandler:
    common = {"quiet": None, "nocolor": False, "stdout": False, "dryrun": False, "verbose": False} | settings
    return LogHandler(SimpleNamespace(**common), None)


@pytest.fixture
def lines(monkeypatch, tmp_path) -> Callable:
    """A function of a story, which sends events; what is printed to a pipe, by line."""
    monkeypatch.setenv(LOGS_ARE_SHOWN, "")
    monkeypatch.chdir(tmp_path)

    def tell(story: Callable[[Events], object], **settings: object) -> list[str]:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", io.StringIO())
            story(Events(handler(**settings)))
            return sys.stderr.getvalue().splitlines()

    return tell


@pytest.fixture
def terminal(monkeypatch, tmp_path) -> Callable:
    """As `lines`, but on a terminal of some columns; all that it gets."""
    monkeypatch.setenv(LOGS_ARE_SHOWN, "")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.chdir(tmp_path)

    def tell(story: Callable[[Events], object], *, columns: int = 80) -> str:
        reader, writer = os.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        with monkeypatch.context() as patch, open(writer, "w", encoding="utf-8") as stream:
            patch.setattr(sys, "stderr", stream)
            story(Events(handler()))
            os.set_blocking(reader, False)
            found = b""
            try:
                while part := os.read(reader, 2**16):
                    found += part
            except BlockingIOError:
                pass
        os.close(reader)
        return found.decode()

    return tell


RUN = {"recipe": "mlp-0123abcd", "dataset": "digits", "latent_dim": "8"}


def two_jobs(events: Events) -> None:
    """A run is trained and evaluated; another one diverges; a third is at its second epoch of ten."""
    events.start(train=3, evaluate=2)
    first = events.begin("train", "one/model.safetensors", arm="bvae", seed="0", **RUN)
    second = events.begin("train", "two/model.safetensors", arm="vae", seed="0", **RUN)
    write_tensors(Path("one/model.safetensors"), {"b": torch.zeros(1)}, form="test", facts={"status": "finished"})
    write_tensors(Path("two/model.safetensors"), {"b": torch.zeros(1)}, form="test", facts={"status": "diverged"})
    write_json("one/metrics.json", {"status": "finished", "elbo": -24.375})
    events.now += 10
    events.finish(first)
    third = events.begin("evaluate", "one/metrics.json (update)", arm="bvae", seed="0", metrics="89abcdef", **RUN)
    events.begin("train", "three/model.safetensors", arm="vae", seed="1", **RUN)
    epoch = {"epoch": 2, "epochs": 10, "images": 100, "images_per_second": 20.0, "elbo": -30.25}
    write_text("three/epochs.jsonl", json.dumps(epoch) + "\n")
    events.now += 5
    events.finish(third)
    events.finish(second)


def test_without_a_terminal_there_is_a_line_for_each_job_that_ended(lines):
    def story(events: Events) -> None:
        two_jobs(events)
        events.end()

    head, *jobs, end = lines(story)
    assert head.startswith("small: 5 ")
    found = [re.fullmatch(r"\[(\d)/5\] +(\S+)  (\w+) +(\S+) +(\S+)(?:  (.*))?", line).groups() for line in jobs]
    assert [groups[:5] for groups in found] == [
        ("1", "0:10", "train", "mlp/digits/bvae-z8-seed0", "0:10"),
        ("2", "0:15", "evaluate", "mlp/digits/bvae-z8-seed0", "0:05"),
        ("3", "0:15", "train", "mlp/digits/vae-z8-seed0", "0:15"),
    ]
    elbo = f"ELBO {-24.375:.{run_metrics()['elbo'].decimals}f}"
    assert [groups[5] for groups in found] == [None, elbo, "diverged"]
    assert "3 of 5" in end
    assert not any(ESCAPE.search(line) for line in jobs)


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_terminal_shows_the_steps_done_the_time_left_and_the_runs_at_work(terminal, columns):
    def story(events: Events) -> None:
        events.now -= 15
        two_jobs(events)
        screen = events.handler.screen
        screen.ended.set()  # from here on it is drawn by us
        screen.thread.join()
        screen._draw_again()
        events.end()

    text = terminal(story, columns=columns)
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is hidden, and there at the end
    shown = ESCAPE.sub("", text)
    assert "3/5 " in shown
    drawn = shown[shown.index("3/5 ") :].replace("\r", "").splitlines()
    assert any("train" in line and "mlp/digits/vae-z8-seed1"[: columns - 30] in line for line in drawn)
    if columns >= 80:
        assert re.search(r"\b0:15, about \d+:\d\d left", shown)
        assert "epoch 2/10" in shown
    assert max(map(len, takewhile(lambda line: "Ctrl-C" not in line, drawn[1:]))) <= columns
    assert len(re.findall(r"^\[\d/5\]", shown, re.MULTILINE)) == 1  # the run that diverged


def test_the_time_left_is_that_of_the_runs_at_work_and_of_those_to_come(lines):
    """A training of 10 epochs that takes 5 s for each; two jobs at once; an evaluation took 5 s, so the other does."""

    def story(events: Events) -> None:
        two_jobs(events)
        jobs = events.handler.jobs
        trained = (10 + 15 + (5 + 8 * 5)) / 3
        assert (jobs.total, jobs.done, [job.rule for job in jobs.running.values()]) == (5, 3, ["train"])
        busy = (10 + 15 + 5 + 5) / 15
        assert jobs.seconds_left(events.now) == pytest.approx((8 * 5 + 5) / busy)
        jobs.counts["train"] += 1
        assert jobs.seconds_left(events.now) == pytest.approx((8 * 5 + 5 + trained) / busy)

    lines(story)
    assert Jobs().seconds_left(time.time()) is None


def test_a_job_that_is_tried_again_is_no_failure_and_counts_once(lines):
    """One of two trainings of 10 s failed at once, and began again; the other ended. 10 s are left."""

    def story(events: Events) -> None:
        events.start(train=2)
        first, failing = (events.begin("train", arm=arm, seed="0", **RUN) for arm in ("bvae", "vae"))
        events.fail(failing, KILLED)
        events.now += 10
        events.finish(first)
        assert [job.name for job in events.handler.jobs.failed] == ["mlp/digits/vae-z8-seed0"]
        assert events.handler.jobs.seconds_left(events.now) == pytest.approx(0)
        events.begin("train", arm="vae", seed="0", **RUN)
        assert events.handler.jobs.failed == []
        assert events.handler.jobs.seconds_left(events.now) == pytest.approx(10)

    lines(story)


@pytest.mark.parametrize("variable", ["NO_COLOR", "TERM"])
def test_colours_and_the_display_can_be_refused(terminal, monkeypatch, variable):
    def story(events: Events) -> None:
        two_jobs(events)
        failed = events.begin("train", "four", "no.log", arm="vae", seed="2", **RUN)
        events.fail(failed, KILLED)
        time.sleep(0.7)  # it is drawn
        events.end()

    assert COLOUR.search(terminal(story))
    monkeypatch.setenv(variable, "1" if variable == "NO_COLOR" else "dumb")
    text = terminal(story)
    assert not COLOUR.search(text)
    assert ("\x1b[" in text) == (variable == "NO_COLOR")
    assert "FAILED" in text


@pytest.mark.parametrize("quiet", [None, ["ALL"], ["RULES", "PROGRESS"]])
@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("returned non-zero exit status 3.", "exit status 3"),
        (KILLED, "SIGKILL"),
        ("returned non-zero exit status 137.", "SIGKILL"),
        ("returned non-zero exit status 143.", "SIGTERM"),
    ],
)
def test_a_failed_job_is_printed_once_however_quiet(lines, quiet, ending, said):
    """Its rule, its run, how it ended, the path of its log and the log's last lines; Snakemake's own texts are not."""

    def story(events: Events) -> None:
        events.start(train=2)
        failed = events.begin("train", "x", "logs/a.log", arm="vae", seed="0", **RUN)
        other = events.begin("train", "y", "logs/b.log", arm="vae", seed="1", **RUN)
        write_text("logs/a.log", "".join(f"12:00:00 epoch {i}\n" for i in range(100)) + "12:00:01 error: \x1b[2Jno\n")
        events.fail(failed, ending)
        events.finish(other)
        events.end()

    found = lines(story, quiet=quiet)
    text = "\n".join(found)
    [first] = [i for i, line in enumerate(found) if "FAILED" in line]
    assert "train mlp/digits/vae-z8-seed0" in found[first] and said in found[first]
    assert "logs/a.log" in found[first + 1] and text.count("logs/a.log") == 1
    assert found[first + 2].endswith("epoch 86") and found[first + 16].endswith("12:00:01 error: ?[2Jno")
    assert text.count("error:") == 1
    assert "CalledProcessError" not in text and "WorkflowError" not in text
    assert "1 of 2" in found[-1] and "train mlp/digits/vae-z8-seed0" in found[-1]


def test_a_job_that_succeeds_when_it_is_tried_again_has_not_failed(lines):
    def story(events: Events) -> None:
        events.start(train=1)
        events.fail(events.begin("train", "x", "a.log", arm="vae", seed="0", **RUN), KILLED)
        events.send("Trying to restart job 1.")
        events.finish(events.begin("train", "x", "a.log", arm="vae", seed="0", **RUN))
        events.end()

    found = lines(story)
    assert sum("FAILED" in line for line in found) == 1
    assert "1 of 1" in found[-1] and "vae-z8-seed0" not in found[-1]


def test_a_failed_job_without_a_log_or_with_an_old_one_says_so(lines):
    def story(events: Events) -> None:
        events.start(train=3)
        write_text("old.log", "12:00:00 of yesterday\n")
        os.utime("old.log", (events.now - 1000,) * 2)
        write_text("empty.log", "")
        for log in ("old.log", "gone.log", "empty.log", None):
            events.fail(events.begin("train", "x", log, arm="vae", seed="0", **RUN), KILLED)
        events.end()

    found = lines(story)
    text = "\n".join(found)
    assert sum("FAILED" in line for line in found) == 4
    assert [text.count(f"log {name}.log:") for name in ("old", "gone")] == [1, 1]
    assert "log empty.log" in text and "python -m bvae train x --log None" in text
    assert "of yesterday" not in text


def test_no_error_is_lost(lines):
    """An exception whose job has no event after all, errors of no job, and warnings."""

    def story(events: Events) -> None:
        events.send("config/small.yaml has 1 fault", logging.ERROR, event=LogEvent.ERROR, exception="WorkflowError")
        events.start(train=1)
        job = events.begin("train", "x", "a.log", arm="vae", seed="0", **RUN)
        events.send("the disk is nearly full", logging.WARNING)
        events.send("MissingOutputException in rule train", logging.ERROR, event=LogEvent.ERROR, exception="x")
        events.raised(job, KILLED)
        events.handler.close()

    found = lines(story, quiet=["ALL"])
    assert [line for line in found if not line.startswith(("RuleException", "CalledProcessError"))] == [
        "config/small.yaml has 1 fault",
        "the disk is nearly full",
        "MissingOutputException in rule train",
        f"Command 'python -m bvae train x --log a.log' {KILLED}",
    ]


def test_an_interrupted_study_does_not_call_its_jobs_failed(lines):
    def story(events: Events) -> None:
        events.start(train=2)
        job = events.begin("train", "x", "a.log", arm="vae", seed="0", **RUN)
        events.send("Terminating processes on user request, this might take some time.")
        events.fail(job, "returned non-zero exit status 130.")
        events.raised(events.begin("train", "y", "b.log", arm="vae", seed="1", **RUN), KILLED)
        events.end()

    text = "\n".join(lines(story))
    assert "FAILED" not in text and "Error" not in text and KILLED not in text


def test_nothing_to_do_is_said(lines):
    def story(events: Events) -> None:
        events.send("Workflow has started!", event=LogEvent.WORKFLOW_STARTED, configfiles=["config/small.yaml"])
        events.send("Nothing to be done (all requested files are present and up to date).")
        events.handler.close()

    [line] = lines(story)
    assert line.startswith("small: ")
    assert lines(story, quiet=["PROGRESS"]) == []


def test_a_step_says_its_error_once_where_its_log_is_shown(monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)
    for shown, expected in (("", 1), ("1", 0)):
        monkeypatch.delenv(LOGS_ARE_SHOWN, raising=False)
        if shown:
            monkeypatch.setenv(LOGS_ARE_SHOWN, shown)
        assert command_line.main(["controls", "Digits", "--log", "a.log"]) == 1
        assert capfd.readouterr().err.count("error: ") == expected
        assert Path("a.log").read_text().count("error: ") == 1


# --- A real workflow --------------------------------------------------------------------------------------------------

WORKFLOW = """
rule all:
    input: "good", "bad", "killed"
rule good:
    output: "good"
    log: "logs/good.log"
    shell: "echo stray >&2; touch {output}"
rule bad:
    output: "bad"
    log: "logs/bad.log"
    shell: "echo 'no pictures' > {log}; exit 3"
rule killed:
    output: "killed"
    log: "logs/killed.log"
    shell: "echo 'epoch 7' > {log}; kill -9 $$"
rule slow:
    output: "slow"
    log: "logs/slow.log"
    shell: "echo begun > {log}; sleep 60"
"""


def start_snakemake(folder: Path, *arguments: str, **streams) -> subprocess.Popen:
    (folder / "Snakefile").write_text(WORKFLOW)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going", "--logger", "bvae", *arguments]
    path = os.pathsep.join([str(ROOT / "workflow/logger"), str(ROOT)])
    return subprocess.Popen(command, cwd=folder, env=environment(PYTHONPATH=path, TERM="xterm"), **streams)


def test_failures_of_a_real_workflow(tmp_path):
    with start_snakemake(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        found = process.communicate()[0].splitlines()
    text = "\n".join(found)
    assert process.returncode == 1
    failed = {line.split()[1]: line for line in found if "FAILED" in line}
    assert failed.keys() == {"bad", "killed"} and len([line for line in found if "FAILED" in line]) == 2
    assert "exit status 3" in failed["bad"] and "SIGKILL" in failed["killed"]
    for once in ("log logs/bad.log", "| no pictures", "log logs/killed.log", "| epoch 7", "stray"):
        assert text.count(once) == 1, once
    assert len([line for line in found if line.startswith("[1/3]")]) == 1
    assert "Select jobs" not in text and "Traceback" not in text


def test_ctrl_c_on_a_real_terminal_ends_it_and_leaves_the_terminal_as_it_was(tmp_path):
    reader, writer = os.openpty()
    before = termios.tcgetattr(reader)
    streams = {"stdin": writer, "stdout": writer, "stderr": writer, "start_new_session": True}

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's job in the background ignores it

    process = start_snakemake(tmp_path, "--", "slow", "good", preexec_fn=take_terminal, **streams)
    os.close(writer)
    found = b""
    try:
        while b"1/2" not in found or b"stray" not in found or not (tmp_path / "logs/slow.log").exists():
            found += os.read(reader, 2**16)
        time.sleep(0.5)
        os.write(reader, b"\x03")
        while True:
            found += os.read(reader, 2**16)
    except OSError:  # nobody has the terminal's other side any more
        pass
    assert process.wait(30) not in (0, None)
    assert termios.tcgetattr(reader) == before
    os.close(reader)
    text = found.decode()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    end = ESCAPE.sub("", text[text.index("\x1b[?25h") :])
    assert "1 of 2" in end and "slow" not in end and "FAILED" not in text and "Traceback" not in text
    assert ESCAPE.sub("", text).count("stray") == 1


STUB = """#!/bin/sh
echo "$PYTHONPATH|$*" >> calls
case "$*" in *snakemake*) exit {status};; esac
"""


@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize(
    ("target", "study", "runs"), [("quick", "quick", 1), ("mnist", "mnist", 1), ("report", "quick", 2)]
)
def test_make_ends_with_the_summary_and_the_status_of_snakemake(tmp_path, target, study, runs, status):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").touch()
    for name, text in (("python", STUB.format(status=status)), ("installed.lock", "")):
        path = tmp_path / ".venv" / ("bin/python" if name == "python" else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    done = subprocess.run(["make", "-s", target], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode != 0) == (status != 0), done.stderr
    calls = [line.split("|") for line in (tmp_path / "calls").read_text().splitlines()]
    snakemakes = calls[: runs if status == 0 else 1]
    for path, arguments in snakemakes:
        assert Path(path) == tmp_path / "workflow/logger"
        assert "-m snakemake --logger bvae --" in arguments and (study in arguments)
    assert [arguments for _, arguments in calls[len(snakemakes) :]] == [f"-m bvae summary config/{study}.yaml"]


# --- The summary ------------------------------------------------------------------------------------------------------

ROWS = [
    run_row(arm, seed, reconstruction=70 + seed / 3, fd_classifier_samples=50 + 3.3 * seed)
    for arm in ("bvae", "vae")
    for seed in (0, 1, 2)
]
CONFIG = Path("config/s.yaml")
VERDICTS = ("reproduced", "partly", "not reproduced", "inconclusive")


@pytest.fixture
def records(tmp_path, monkeypatch):
    """A function that writes a study's runs as records, and makes its tables and claims where all runs are there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    shutil.copy(ROOT / "config/claims.yaml", tmp_path / "config")

    def write(rows: list[dict], missing: int = 0) -> dict:
        study = write_study(rows, tmp_path)
        shutil.move(tmp_path / "results/runs", tmp_path / "results/records")
        found = sorted((tmp_path / "results/records").rglob("metrics-*.json"))
        for path in found:
            history = path.with_name("history.csv")
            write_text(history, "epoch\n")
            write_sums(path.parent, {file.name: sha256_of_file(file) for file in (path, history)})
        for path in found[:missing]:
            shutil.rmtree(path.parent)
        if not missing:
            write_tables(study, Path("results/studies/s/tables"))
            write_claims(study, Path("config/claims.yaml"), Path("results/studies/s"))
        return study

    return write


def numbers(text: str, arm: str) -> list[str]:
    """The cells of an arm's line."""
    [line] = [line for line in text.splitlines() if line.startswith(f"{arm}  ")]
    return re.split(r"  +", line)[1:]


def expected(csv: pd.DataFrame, arm: str) -> list[str]:
    """The same from the table's csv, with formats of our own."""
    row = csv.set_index("arm").loc[arm]
    cells = [f"{row['parameters']:,.0f}"]
    for name, factor in (("reconstruction", 1), ("elbo", 1), ("fd_classifier_samples", 1), ("probe_accuracy", 100)):
        cells.append(f"{factor * row[name]:.2f} ± {factor * row[f'{name}_sd']:.2f}")
    return cells


def test_the_numbers_of_the_summary_are_those_of_the_table(records):
    study = records(ROWS)
    csv = pd.read_csv("results/studies/s/tables/table1.csv")
    text = summarise_study(study, CONFIG)
    assert text.startswith("s: 6 of 6 ")
    assert "n = 3" in text
    for arm, label in (("bvae", "BVAE"), ("vae", "VAE")):
        assert sorted(numbers(text, label)) == sorted(expected(csv, arm))
    [heading] = [line for line in text.splitlines() if "↓" in line]
    assert heading.count("↓") == 2 and heading.count("↑") == 2
    assert json.loads(Path("results/studies/s/tables/table1.json").read_text())["provenance"]["id"] in text
    assert "results/studies/s/tables/table1.csv" in text and "python -m bvae summary config/s.yaml" in text


def test_the_summary_counts_the_verdicts(records):
    study = records(ROWS)
    counts = pd.read_csv("results/studies/s/claims.csv")["verdict"].value_counts()
    [line] = [line for line in summarise_study(study, CONFIG).splitlines() if line.startswith("claims")]
    found = {verdict: int(number) for number, verdict in re.findall(r"(\d+) ([a-z ]+?)(?=,|:)", line)}
    assert found == counts.to_dict() and set(found) <= set(VERDICTS)


def test_a_study_whose_runs_diverged_or_are_missing_has_a_summary(records):
    """Seed 2 of the VAE diverged, seed 0 of the BVAE is missing; there is no id to cite."""
    rows = [*ROWS[:5], lost(ROWS[5])]
    text = summarise_study(records(rows, missing=1), CONFIG)
    assert re.match(r"s: 5 of 6 .*\b1 diverged", text)
    counts = {label: numbers(text, label)[0] for label in ("BVAE", "VAE")}
    assert counts == {"BVAE": "2 of 3", "VAE": "2 (1 diverged)"}
    means = pd.DataFrame([row for row in rows[1:5]]).groupby("arm")["elbo"]
    for label, arm in (("BVAE", "bvae"), ("VAE", "vae")):
        assert f"{means.mean()[arm]:.2f} ± {means.std()[arm]:.2f}" in numbers(text, label)
    assert "cite" not in text


def test_results_that_cannot_be_read_are_counted_in_the_summary(records):
    study = records(ROWS)
    write_json(next(Path("results/records").rglob("metrics-*.json")), {})
    assert re.match(r"s: 5 of 6 .*\b1 damaged", summarise_study(study, CONFIG))


def test_tables_of_other_runs_are_not_cited(records):
    study = records(ROWS)
    assert "\ncite" in summarise_study(study, CONFIG)
    path = next(Path("results/records").rglob("metrics-*.json"))
    write_json(path, json.loads(path.read_text()) | {"elbo": -90.0})
    assert "\ncite" not in summarise_study(study, CONFIG)
    write_json(path, json.loads(path.read_text()) | {"training_version": 0})
    assert re.match(r"s: 5 of 6 .*\b1 outdated", summarise_study(study, CONFIG))


def test_the_summary_fits_in_80_columns_and_writes_nothing(records):
    study = records(ROWS)
    before = sorted(Path().rglob("*"))
    text = summarise_study(study, CONFIG, width=80)
    assert max(map(len, text.splitlines()[:8])) <= 80
    assert [cell.replace("±", " ± ") for cell in numbers(text, "VAE")] == numbers(summarise_study(study, CONFIG), "VAE")
    assert sorted(Path().rglob("*")) == before


def unbroken(line: str) -> bool:
    """Whether a line is one command or one path, which is left whole to be copied."""
    text = line.strip()
    return text.startswith(("snakemake ", "python -m ", "make ")) or " " not in text


@pytest.mark.parametrize("width", [40, 60, 79])
def test_the_summary_is_readable_in_a_narrow_terminal(records, width):
    study = records(ROWS)
    text, wide = (summarise_study(study, CONFIG, width=columns) for columns in (width, 120))
    assert [line for line in text.splitlines() if len(line) > width and not unbroken(line)] == []
    csv = pd.read_csv("results/studies/s/tables/table1.csv")
    said = " ".join(text.split()).replace(" ± ", "±")
    for arm in ("bvae", "vae"):
        assert all(cell.replace(" ± ", "±") in said for cell in expected(csv, arm))
    words, narrow = ({*of.replace("±", " ± ").split()} for of in (wide, text))
    assert words - narrow <= {"arm"}  # the heading of what is then a heading


@pytest.mark.parametrize("width", [40, 79])
def test_the_summary_of_a_study_to_come_is_readable_in_a_narrow_terminal(records, width):
    text = summarise_study(records([*ROWS[:5], lost(ROWS[5])], missing=1), CONFIG, width=width)
    assert [line for line in text.splitlines() if len(line) > width and not unbroken(line)] == []


def test_a_terminal_of_40_columns_is_asked(records, monkeypatch):
    study = records(ROWS)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    assert summarise_study(study, CONFIG) == summarise_study(study, CONFIG, width=40)


def test_verdicts_of_either_protocol_are_counted(records):
    study, path = records(ROWS), Path("results/studies/s/claims.json")
    verdicts = ["undecided", "not judged", "undecided", "depends"]
    write_json(path, json.loads(path.read_text()) | {"rows": [{"verdict": verdict} for verdict in verdicts]})
    assert "undecided" not in summarise_study(study, CONFIG)  # somebody has changed the file
    plan = Plan(study)
    note_made_from(plan, "claims", made_from(plan, "claims"))
    text = summarise_study(study, CONFIG)
    assert re.search(r"^claims +1 depends, 2 undecided, 1 not judged: ", text, re.MULTILINE)


def test_a_study_that_tunes_shows_its_rates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rates = {"a": 0.002, "b": 0.002 * 2**0.5, "c": 0.004}
    rows = [result(f"r-{name}", "vae", rate, -100.0 - 100 * (name != "b")) for name, rate in rates.items()]
    block = {"datasets": ["fake_validation"], "recipes": [row["recipe"] for row in rows], "latent_dims": [3]}
    study = {"study": "t", "title": "", "tuning": True, "features": [], "version": 1}
    study["blocks"] = [block | {"arms": ["vae"], "seeds": [0]}]
    study["recipes"] = {row["recipe"]: row["settings"] | {"importance": {}} for row in rows}
    write_results(study, rows[:2], tmp_path)
    text = summarise_study(study, CONFIG)
    assert text.startswith("t: 2 of 3 ") and "learning_rate" not in text
    write_results(study, rows[2:], tmp_path)
    write_tuning(study, Path("results/studies/t"))
    text = summarise_study(study, CONFIG)
    assert f"learning_rate: {{vae: {rates['b']:.5f}}}" in text
    assert json.loads(Path("results/studies/t/tuning.json").read_text())["provenance"]["id"] in text


def test_a_study_without_runs_has_a_summary(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((ROOT / "config/quick.yaml").read_text())
    Path("small.yaml").write_text(yaml.safe_dump(config))
    assert command_line.main(["summary", "small.yaml"]) == 0
    assert capsys.readouterr().out.startswith("quick: 0 of 12 ")
    assert command_line.main(["summary", "none.yaml"]) == 1
