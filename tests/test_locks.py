"""Locks that die with their process: held alone, taken over after a kill, and Snakemake's own cleared when stale."""

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bvae.system import locks
from bvae.system.locks import clear_stale_locks, held_alone
from helpers.checkouts import ROOT

HOLD = "import sys; sys.path.insert(0, {root!r})\nfrom pathlib import Path\nfrom bvae.system.locks import *\n{body}"


@contextlib.contextmanager
def another_process(body: str) -> Iterator[subprocess.Popen]:
    """A process that runs `body`, says a line, and holds what it holds until it is told to end or is killed."""
    script = HOLD.format(root=str(ROOT), body=body)
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


def holding(path: Path) -> str:
    return f"with held_alone({str(path)!r}):\n    print('ready', flush=True)\n    sys.stdin.readline()\n"


def test_a_lock_is_held_alone_and_leaves_nothing(tmp_path):
    with held_alone(tmp_path / "folder/a.lock") as waited:
        assert not waited
        assert (tmp_path / "folder/a.lock").read_text() == f"{os.getpid()}\n"
        with open(tmp_path / "folder/a.lock") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_lock_is_given_back_when_the_block_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), held_alone(tmp_path / "a.lock"):
        1 / 0  # noqa: B018
    with held_alone(tmp_path / "a.lock") as waited:
        assert not waited


def test_who_comes_second_waits(tmp_path):
    lock = tmp_path / "a.lock"
    second = f"print('ready', flush=True)\nwith held_alone({str(lock)!r}) as waited:\n    print(waited, flush=True)"
    with another_process(holding(lock)) as holder, another_process(second) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1)
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert waiting.stdout.readline() == "True\n"
        assert waiting.wait(30) == holder.wait(30) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path, caplog):
    with another_process(holding(tmp_path / "a.lock")) as first:
        first.kill()
        first.wait()
        assert (tmp_path / "a.lock").exists()
        with held_alone(tmp_path / "a.lock") as waited:
            assert not waited
    assert caplog.text == ""


def test_a_file_system_without_locks_is_named_and_used(tmp_path, monkeypatch, caplog):
    def refuse(handle, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with held_alone(tmp_path / "a.lock") as waited:
        assert not waited
    assert "has no locks ([Errno 37] No locks available); goes on without" in caplog.text
    assert clear_stale_locks(tmp_path / ".snakemake") is None
    assert "after a kill, run snakemake --unlock" in caplog.text


def write_locks(folder: Path) -> list[Path]:
    """What Snakemake writes when it begins."""
    (folder / "locks").mkdir(parents=True, exist_ok=True)
    paths = [folder / "locks/0.input.lock", folder / "locks/0.output.lock"]
    for path in paths:
        path.write_text("resources/data/digits.safetensors\n")
    return paths


def test_locks_of_a_killed_snakemake_are_removed_and_those_of_a_living_one_stay(tmp_path, caplog):
    paths = write_locks(tmp_path)
    body = f"lock = clear_stale_locks(Path({str(tmp_path)!r}))\nprint('ready', flush=True)\nsys.stdin.readline()"
    with another_process(body) as living:
        assert not any(path.exists() for path in paths)  # they were there before it
        write_locks(tmp_path)  # its own
        mine = clear_stale_locks(tmp_path)
        assert all(path.exists() for path in paths)
        assert f"another snakemake is at work in this folder, process {living.pid}" in caplog.text
        living.kill()
        living.wait()
        os.close(mine)
        caplog.clear()
        os.close(clear_stale_locks(tmp_path))
    assert not any(path.exists() for path in paths)
    assert "the locks that a killed snakemake left in this folder are removed" in caplog.text
