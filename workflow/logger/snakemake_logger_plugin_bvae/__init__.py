"""The output of a study while it runs: `python -m snakemake --logger bvae`, as the Makefile calls it.

Snakemake finds this package where its folder is on the path: `PYTHONPATH=workflow/logger`. On a terminal it draws the
steps done, the time left and the jobs at work (screen.py). Elsewhere it prints a line for each job that ends. Failures
are printed by either, once, whatever `--quiet` says. Events arrive in a thread of Snakemake's, one at a time.
"""

import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from bvae.errors import LOGS_ARE_SHOWN

from .jobs import Jobs, duration
from .words import failure, finished_line, plan_in_words

if TYPE_CHECKING:
    from .screen import Screen

# Of messages without an event, which are many, those that are printed: they begin with one of these.
SHOWN = ("Trying to restart job", "Creating report", "Unlocked working directory", "Removing lock")
NOTHING_TO_DO = "Nothing to be done"
INTERRUPTED = "Terminating processes on user request"
AFTER_FAILURES = ("Exiting because a job execution failed", "WorkflowError:\nAt least one job did not complete")


class LogHandler(LogHandlerBase):
    """Prints the events of one run of Snakemake."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True  # of its own: that of Snakemake hides errors with `--quiet rules`
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Look at the stream, and tell the steps not to repeat there what is printed from their logs."""
        self.stream = sys.stdout if self.common_settings.stdout else sys.stderr
        quiet = {str(getattr(choice, "name", choice)).lower() for choice in self.common_settings.quiet or ()}
        self.quiet = bool(quiet & {"all", "progress"})
        self.jobs = Jobs()
        self.study = ""
        self.screen: Screen | None = None
        self.interrupted = False
        self.guard = threading.RLock()
        os.environ[LOGS_ARE_SHOWN] = "1"
        atexit.register(self.close)
        self.on_event: dict[str | None, Callable[[logging.LogRecord], None]] = {
            LogEvent.WORKFLOW_STARTED: self._started,
            LogEvent.RUN_INFO: self._planned,
            LogEvent.JOB_INFO: self._begun,
            LogEvent.JOB_FINISHED: self._finished,
            LogEvent.JOB_ERROR: self._failed,
            LogEvent.GROUP_ERROR: self._group_failed,
            LogEvent.ERROR: self._error,
            None: self._message,
        }

    def emit(self, record: logging.LogRecord) -> None:
        """Take an event, or a message without one."""
        try:
            with self.guard:
                event = getattr(record, "event", None)
                if event in self.on_event:
                    self.on_event[event](record)
                elif record.levelno >= logging.WARNING or self.common_settings.verbose:
                    self._print(record.getMessage())
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Leave the terminal as it was, and print what nobody has printed yet."""
        with self.guard:
            self._close_screen()
            for text in self.jobs.unmatched_errors():
                if not self.interrupted:
                    self._print(text)
        super().close()

    # --- The events ---

    def _started(self, record: logging.LogRecord) -> None:
        files = [str(file) for file in getattr(record, "configfiles", None) or ()]
        self.study = os.path.basename(files[-1]).partition(".")[0] if files else "the workflow"

    def _planned(self, record: logging.LogRecord) -> None:
        self.jobs.plan(record.__dict__["stats"], record.created)
        if self.common_settings.dryrun:
            self._print(record.getMessage())
        elif not self.quiet:
            self._print(f"{self.study}: {plan_in_words(self.jobs)}")
            self._open_screen()

    def _begun(self, record: logging.LogRecord) -> None:
        self.jobs.begin(record)
        if self.common_settings.dryrun and not self.quiet:
            job = self.jobs.running[record.__dict__["jobid"]]
            self._print(f"{job.rule} {job.name}".rstrip())

    def _finished(self, record: logging.LogRecord) -> None:
        job = self.jobs.finish(record.__dict__["job_id"], record.created)
        if job is None or job.is_target or self.quiet:
            return
        line = finished_line(self.jobs, job)
        if self.screen is None or "diverged" in line:
            self._print(line)
        else:
            self.jobs.last = line

    def _failed(self, record: logging.LogRecord) -> None:
        job = self.jobs.fail(record)
        if not self.interrupted:
            self._print(failure(job))

    def _group_failed(self, record: logging.LogRecord) -> None:
        """Its jobs follow, each with its own event; here are the logs of the group."""
        if logs := getattr(record, "aux_logs", None):
            self._print(f"{record.getMessage()}: log {', '.join(map(str, logs))}")

    def _error(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not self.jobs.note_error(text) and not self._said_already(text):
            self._print(text)

    def _message(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith(INTERRUPTED):
            self.interrupted = True
            self._close_screen()
            self._print("Interrupted. The same command goes on from what is saved.")
        elif text.startswith(NOTHING_TO_DO):
            if not self.quiet:
                self._print(f"{self.study}: everything is made already, nothing to do")
        elif text.startswith("Elapsed time"):
            self._close_screen()
            if not self.quiet or self.jobs.failed:
                self._print(f"{self.study}: {self._ending(record.created)}")
        elif self._is_shown(record.levelno, text):
            self._print(text)

    def _is_shown(self, level: int, text: str) -> bool:
        is_new = level >= logging.WARNING and not self._said_already(text)
        return is_new or self.common_settings.verbose or text.startswith(SHOWN)

    def _said_already(self, text: str) -> bool:
        return bool(self.jobs.failed or self.interrupted) and text.startswith(AFTER_FAILURES)

    def _ending(self, now: float) -> str:
        jobs = self.jobs
        text = f"{jobs.done} of {jobs.total} steps done in {duration(now - jobs.begun)}"
        if jobs.failed and not self.interrupted:
            names = ", ".join(dict.fromkeys(f"{job.rule} {job.name}".rstrip() for job in jobs.failed))
            text += f"; failed: {names}"
        return text

    # --- Where it goes ---

    def _open_screen(self) -> None:
        colour = not self.common_settings.nocolor
        if self.screen is None and self.stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
            try:
                from .screen import Screen
            except ImportError:  # without rich there are lines
                return
            self.screen = Screen(self.stream, self.jobs, self.study, self.guard, colour=colour)
            self.screen.start()

    def _close_screen(self) -> None:
        if self.screen is not None:
            screen, self.screen = self.screen, None
            screen.close()

    def _print(self, text: str) -> None:
        if self.screen is not None:
            self.screen.print(text)
            return
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        try:
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            self.stream.flush()
        except BrokenPipeError:  # whoever read the lines has gone; the study goes on
            self.stream = open(os.devnull, "w")  # noqa: SIM115
