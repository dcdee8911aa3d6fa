"""The lease of a GPU: each job its own card, freed however the job ends; a scheduler's choice is kept."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bvae.__main__ import main
from bvae.system import devices as gpus

ROOT = Path(__file__).parents[1]
JOB = """
import os, sys, time
from bvae.system.devices import lease_gpu
device = lease_gpu(poll=0.05)
print(device, os.environ["CUDA_VISIBLE_DEVICES"], time.time(), flush=True)
time.sleep(float(sys.argv[1]))
print(time.time(), flush=True)
"""


def job(tmp_path: Path, devices: str, *, seconds: float) -> subprocess.Popen:
    """A process that leases one of `devices` and holds it so long."""
    environment = os.environ | {"TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": devices, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", JOB, str(seconds)], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_jobs_hold_a_card_each_and_wait_for_one(tmp_path):
    """Four jobs on two cards: those of one card never overlap, and all four get one."""
    jobs = [job(tmp_path, "2,5", seconds=0.4) for _ in range(4)]
    spans: dict[str, list[tuple[float, float]]] = {"2": [], "5": []}
    for process in jobs:
        first, last = process.communicate(timeout=60)[0].splitlines()
        device, visible, start = first.split()
        assert device == visible
        spans[device].append((float(start), float(last)))
    assert sorted(map(len, spans.values())) == [2, 2]
    for held in spans.values():
        (_, end), (start, _) = sorted(held)
        assert start >= end


def test_a_killed_job_gives_its_card_back(tmp_path):
    holders = [job(tmp_path, "0,1", seconds=60) for _ in range(2)]
    taken = {process.stdout.readline().split()[0] for process in holders}
    assert taken == {"0", "1"}
    waiting = job(tmp_path, "0,1", seconds=0)
    time.sleep(0.5)
    assert waiting.poll() is None
    holders[0].send_signal(signal.SIGKILL)
    assert waiting.communicate(timeout=60)[0].split()[0] in taken
    holders[1].kill()
    for process in holders:
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("devices", ["", "3", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"])
def test_one_card_or_none_takes_no_lock(tmp_path, monkeypatch, devices):
    """A scheduler that gives every job one card calls it 0 in each: a lock would make jobs wait for each other."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    assert gpus.lease_gpu() is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == devices
    assert list(tmp_path.iterdir()) == []


def test_the_cards_are_those_of_the_machine_or_those_named(monkeypatch):
    monkeypatch.setattr(gpus.glob, "glob", lambda pattern: ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia7"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.visible_gpus() == ["0", "1", "2"]  # CUDA numbers what it finds
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, MIG-1/2/0 ,")
    assert gpus.visible_gpus() == ["1", "MIG-1/2/0"]


@pytest.mark.parametrize(("device", "leases"), [("auto", 1), ("cuda", 1), ("cpu", 0)])
def test_a_step_that_may_compute_on_a_gpu_leases_one(tmp_path, monkeypatch, device, leases):
    calls = []
    monkeypatch.setattr(gpus, "lease_gpu", lambda: calls.append(1))
    monkeypatch.setattr("bvae.__main__._start_logging", lambda path: None)  # the root logger is other tests', too
    missing = tmp_path / "missing.safetensors"
    monkeypatch.chdir(tmp_path)
    assert main(["reference", "missing-classifier", "--device", device]) == 1
    assert len(calls) == leases
    assert main(["data", "describe", str(missing)]) == 1  # no device, no lease
    assert len(calls) == leases
