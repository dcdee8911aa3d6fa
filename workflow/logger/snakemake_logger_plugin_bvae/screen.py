"""The display on a terminal: the steps done, the time left, the jobs at work."""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import TextIO

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .jobs import Job, Jobs, duration

RATE = 2  # times a second that it is drawn again
SHOWN = 8  # jobs at work that are named
BAR = 30


class Screen:
    """A display below the text that is printed, until it is closed.

    Meanwhile what jobs write to the terminal goes to a file and is printed above the display, a line at a time: their
    own writing would break it.
    """

    def __init__(self, stream: TextIO, jobs: Jobs, study: str, guard: threading.RLock, *, colour: bool = True):
        self.jobs, self.study, self.guard = jobs, study, guard
        self.captured = Captured(stream)
        self.console = Console(file=self.captured.terminal, no_color=None if colour else True, highlight=False)
        self.live = Live(
            console=self.console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._keep_drawing, daemon=True)

    def start(self) -> None:
        """Draw it, and again and again."""
        self.live.start()
        self.thread.start()

    def print(self, text: str) -> None:
        """Print above the display."""
        shown = Text(text)
        if text.startswith("FAILED") or "diverged" in text:
            shown.stylize("bold red", 0, len(text.partition("\n")[0]))
        self.console.print(shown, soft_wrap=True)

    def close(self) -> None:
        """Remove the display, and give the terminal back."""
        self.ended.set()
        self.live.stop()
        for line in self.captured.close():
            print(line, file=self.console.file)
        self.console.file.flush()

    def _keep_drawing(self) -> None:
        while not self.ended.wait(1 / RATE):
            with self.guard:
                if not self.ended.is_set():
                    self._draw_again()

    def _draw_again(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            columns, lines = os.get_terminal_size(self.captured.terminal.fileno())
            self.console.size = ConsoleDimensions(columns or 80, lines or 24)
        for line in self.captured.lines():
            self.console.print(Text(line), soft_wrap=True)
        self.live.update(Group(*self._draw(time.time(), self.console.width)), refresh=True)

    def _draw(self, now: float, width: int) -> Iterator[Table | Text]:
        jobs = self.jobs
        left = jobs.seconds_left(now)
        head = Table.grid(padding=(0, 2))
        said = f"{jobs.done}/{jobs.total} steps"
        if jobs.failed:
            said += f", {len(jobs.failed)} failed"
        times = duration(now - jobs.begun) + (f", about {duration(left)} left" if left is not None else "")
        bar = ProgressBar(total=max(jobs.total, 1), completed=jobs.done, width=min(BAR, max(width - 50, 5)))
        head.add_row(Text(self.study, style="bold"), bar, Text(said), Text(times))
        yield head
        yield _cut("to do: " + ", ".join(f"{count} {rule}" for rule, count in jobs.to_do().items()), "dim")
        running = sorted((job for job in jobs.running.values() if not job.is_target), key=lambda job: job.begun)
        for job in running[:SHOWN]:
            yield _cut(f"  {_at_work(job, now)}", "")
        if len(running) > SHOWN:
            yield _cut(f"  and {len(running) - SHOWN} more", "")
        if jobs.last:
            yield _cut(f"last  {jobs.last.strip()}", "dim")
        yield _cut("Ctrl-C stops; the same command goes on where it was", "dim")


def _at_work(job: Job, now: float) -> str:
    text = f"{job.rule:12} {job.name:30}  {duration(now - job.begun):>7}"
    if (last := job.epochs()) is not None:
        text += f"  epoch {last['epoch']:.0f}/{last['epochs']:.0f}"
        if isinstance(last.get("elbo"), float | int):
            text += f"  ELBO {last['elbo']:.2f}"
    return text


def _cut(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


class Captured:
    """What this process and its children write to standard output and error, kept while it would break the display."""

    def __init__(self, stream: TextIO):
        """`stream` is the one that is a terminal. Others, as a file for standard output, are left alone."""
        self.terminal = open(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors="backslashreplace")  # noqa: SIM115
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        self.position, self.begun = 0, b""
        self.saved = {}
        for descriptor in (1, 2):
            try:
                if os.isatty(descriptor):
                    self.saved[descriptor] = os.dup(descriptor)
                    os.dup2(self.file.fileno(), descriptor)
            except OSError:
                continue

    def lines(self) -> list[str]:
        """The whole lines that were written since this was last asked for."""
        found = os.pread(self.file.fileno(), 2**20, self.position)
        self.position += len(found)
        *lines, self.begun = (self.begun + found).split(b"\n")
        return [_plain(line) for line in lines]

    def close(self) -> list[str]:
        """Give the terminal back; what was written and not asked for yet."""
        for descriptor, saved in self.saved.items():
            os.dup2(saved, descriptor)
            os.close(saved)
        self.saved = {}
        lines = []
        while more := self.lines():
            lines += more
        lines += [_plain(self.begun)] if self.begun else []
        self.begun = b""
        return lines


def _plain(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rpartition("\r")[2].rstrip()
