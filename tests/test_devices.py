"""Slots of GPUs: cards fill evenly, jobs wait when all slots are taken, a killed job gives its slot back.

The cards are stand-ins: a fake nvidia-smi lists them.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode

from bvae.__main__ import main
from bvae.errors import InputError
from bvae.evaluation import trained
from bvae.evaluation.controls import evaluate_untrained
from bvae.evaluation.metrics import TASKS
from bvae.evaluation.probes import linear_probes
from bvae.evaluation.references import make_reference
from bvae.runs import Run, build_model
from bvae.system import devices as gpus
from bvae.system.batching import in_batches
from helpers.checkouts import ROOT, snakemake
from helpers.small import SETTINGS, SHORT_SWEEP
from helpers.training_runs import CPU

CLEARED = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", gpus.SLOTS_VARIABLE, *gpus.JOB_VARIABLES)
LARGE = "{}, GPU-{}, 143771, Disabled"  # MiB
SMALL = "{}, GPU-{}, 24564, [N/A]"
JOB = """
import logging, os, sys
from bvae.system.devices import lease_gpu, slot
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
with lease_gpu(hold=sys.argv[1] == "hold", poll=0.02) as card:
    print("has", card, os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    while sys.stdin.readline() == "turn\\n":
        with slot():
            print("begins", flush=True)
            sys.stdin.readline()
        print("ended", flush=True)
"""


def fake_nvidia_smi(folder: Path, *rows: str) -> str:
    """A PATH on which nvidia-smi lists these cards: index, UUID, memory in MiB, MIG mode.

    Each call writes its own, because an earlier job may be reading that of another.
    """
    program = Path(tempfile.mkdtemp(prefix="bin-", dir=folder), "nvidia-smi")
    program.write_text("#!/bin/sh\ncat <<END\n" + "".join(f"{row}\n" for row in rows) + "END\n")
    program.chmod(0o755)
    return f"{program.parent}{os.pathsep}{os.environ['PATH']}"


class Job:
    """A process that leases a card, and holds a slot of it unless `turns`, until its stdin is closed."""

    def __init__(self, folder: Path, *, turns: bool = False, **variables: str):
        known = {name: value for name, value in os.environ.items() if name not in CLEARED}
        self.process = subprocess.Popen(
            [sys.executable, "-c", JOB, "turns" if turns else "hold"],
            env=known | {"TMPDIR": str(folder), "PYTHONPATH": str(ROOT)} | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def card(self) -> str:
        """The card that it has, once it has one; no other is visible to it."""
        return self.until("has").split()[0]

    def until(self, word: str) -> str:
        """Read what it says to a line that begins with this word; the rest of the line."""
        for line in self.process.stdout:
            first, _, rest = line.strip().partition(" ")
            if first == word:
                if word == "has":
                    leased, visible = rest.split()
                    assert leased == visible
                return rest
        raise AssertionError(f"the process has ended without '{word}'")

    def says(self, line: str) -> None:
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.kill()  # SIGKILL
        self.end()


@pytest.fixture
def start(tmp_path) -> Iterator:
    """Start jobs that see the same fake cards and the same locks; those that are left are killed."""
    jobs = []

    def starter(*rows: str, **options) -> Job:
        path = fake_nvidia_smi(tmp_path, *rows)
        jobs.append(Job(tmp_path, PATH=path, **options))
        return jobs[-1]

    yield starter
    for job in jobs:
        if job.process.returncode is None:
            job.kill()


@pytest.fixture
def clear(tmp_path, monkeypatch) -> Path:
    """No variable chooses cards, nvidia-smi and cards are absent, and the locks are in a folder of the test."""
    for name in CLEARED:
        monkeypatch.setenv(name, "")  # so that what a lease sets is undone after the test
        monkeypatch.delenv(name)
    monkeypatch.setattr(gpus, "QUERY", ["no-nvidia-smi"])
    monkeypatch.setattr(gpus.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(gpus.glob, "glob", lambda pattern: [])
    return tmp_path


# --- the cards and their slots ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "slots"),
    [
        (None, {"0": 4, "1": 1, "2": 1, "3": 1, "4": 1, "5": 4}),
        ("5, 1", {"5": 4, "1": 1}),
        ("0", {"0": 4}),
        ("GPU-a,GPU-b", {"GPU-a": 4, "GPU-b": 1}),
        ("GPU-aa12,GPU-unknown", {"GPU-aa12": 4, "GPU-unknown": 1}),
        ("MIG-1/2/0,", {"MIG-1/2/0": 1}),
        ("0,-1,5", {"0": 4}),  # CUDA ignores what follows a name that is none
        ("NoDevFiles", {}),
        ("", {}),
    ],
)
def test_a_large_card_has_four_slots_and_any_other_one(clear, monkeypatch, named, slots):
    rows = ["0, GPU-aa12, 143771, [N/A]", "1, GPU-bb34, 40960, Disabled", "2, GPU-cc56, 81559, Enabled"]
    rows += ["3, GPU-dd78, 24564, Disabled", "4, GPU-ee90, [N/A], [N/A]", "5, GPU-ff00, 40961, Disabled"]
    monkeypatch.setattr(gpus, "QUERY", ["sh", "-c", f"printf '{os.linesep.join(rows)}'"])
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert gpus.visible_cards() == slots
    monkeypatch.setenv(gpus.SLOTS_VARIABLE, "3")
    assert gpus.visible_cards() == dict.fromkeys(slots, 3)


@pytest.mark.parametrize("query", [["no-nvidia-smi"], ["false"], ["echo", "No devices were found"]])
def test_without_nvidia_smi_every_card_has_one_slot(clear, monkeypatch, query):
    monkeypatch.setattr(gpus, "QUERY", query)
    monkeypatch.setattr(gpus.glob, "glob", lambda pattern: ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia7"])
    assert gpus.visible_cards() == {"0": 1, "1": 1, "2": 1}  # CUDA numbers what it finds
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6")
    assert gpus.visible_cards() == {"1": 1, "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6": 1}


@pytest.mark.parametrize("slots", ["0", "-1", "four", "1.5", "²"])
def test_a_number_of_slots_that_is_none_is_refused(clear, monkeypatch, slots):
    monkeypatch.setenv(gpus.SLOTS_VARIABLE, slots)
    with pytest.raises(InputError, match=f"expected the number of jobs that share a GPU, at least 1, got '{slots}'"):
        gpus.visible_cards()


@pytest.mark.parametrize("named", [None, "0"])
def test_without_a_card_nothing_is_locked(clear, monkeypatch, named):
    """CUDA_VISIBLE_DEVICES may be set on a machine without a GPU: its jobs do not wait for each other."""
    if named:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    with gpus.lease_gpu() as card, gpus.slot() as taken:
        assert card is None and not taken
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == named
    assert list(clear.iterdir()) == []


# --- jobs that hold a slot -------------------------------------------------------------------------------------------


def test_cards_fill_evenly_and_a_killed_job_gives_its_slot_back(start):
    """Jobs that start together on two cards of four slots: 2 and 2, then 4 and 4; the ninth waits for a slot."""
    cards = [LARGE.format(0, "a"), LARGE.format(1, "b")]
    jobs = [start(*cards) for _ in range(4)]
    placed = [job.card() for job in jobs]
    assert Counter(placed) == {"0": 2, "1": 2}
    assert Counter(job.card() for job in [start(*cards) for _ in range(4)]) == {"0": 2, "1": 2}
    ninth = start(*cards)
    ninth.until("waits")
    jobs[placed.index("1")].kill()
    assert ninth.card() == "1"


def test_jobs_share_the_slots_of_one_card(start):
    """Its number, or its UUID in CUDA_VISIBLE_DEVICES; the fifth job waits until one of four ends."""
    jobs = [start(LARGE.format(0, "a")) for _ in range(4)]
    assert [job.card() for job in jobs] == ["0"] * 4
    fifth = start(LARGE.format(0, "a"))
    fifth.until("waits")
    jobs[2].end()
    assert fifth.card() == "0"
    named = [start(LARGE.format(0, "a"), CUDA_VISIBLE_DEVICES="GPU-a") for _ in range(4)]
    assert [job.card() for job in named] == ["GPU-a"] * 4


def test_a_small_card_takes_one_job_and_a_large_one_four(start):
    jobs = [start(SMALL.format(0, "a"), LARGE.format(1, "b")) for _ in range(5)]
    assert Counter(job.card() for job in jobs) == {"0": 1, "1": 4}
    parts = [start(LARGE.format(0, "a"), CUDA_VISIBLE_DEVICES="MIG-1/2/0,MIG-1/3/0") for _ in range(2)]
    assert sorted(job.card() for job in parts) == ["MIG-1/2/0", "MIG-1/3/0"]


def test_jobs_of_a_scheduler_do_not_wait_for_each_other(start):
    """SLURM calls the card of every job 0 and gives each job another one; only processes of one job share a card."""
    jobs = [start(SMALL.format(0, "a"), CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID=str(number)) for number in (7, 8, 9)]
    assert [job.card() for job in jobs] == ["0", "0", "0"]
    second = start(SMALL.format(0, "a"), CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID="8")
    second.until("waits")
    jobs[1].end()
    assert second.card() == "0"


def test_jobs_to_which_a_scheduler_gave_no_card_share_those_of_the_machine(start):
    """A cluster that does not manage its GPUs shows all of them to every job."""
    jobs = [start(SMALL.format(0, "a"), SMALL.format(1, "b"), SLURM_JOB_ID=str(number)) for number in (7, 8)]
    assert sorted(job.card() for job in jobs) == ["0", "1"]


def test_where_no_lock_can_be_made_jobs_go_on(clear, monkeypatch, caplog):
    (clear / f"bvae-gpus-{os.getuid()}").write_text("a file in the place of the folder")
    monkeypatch.setattr(gpus, "visible_cards", lambda: {"0": 4, "1": 4})
    with gpus.lease_gpu() as card:
        assert card is None
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert "cannot be locked (File exists)" in caplog.text


# --- jobs that take a slot for each turn -----------------------------------------------------------------------------


def test_a_job_of_turns_holds_a_slot_only_during_a_turn(start):
    """On a card of one slot: it gets a card at once, waits for its turn, and the next holder waits for its end."""
    holder = start(SMALL.format(0, "a"))
    assert holder.card() == "0"
    evaluation = start(SMALL.format(0, "a"), turns=True)
    assert evaluation.card() == "0"
    evaluation.says("turn")
    evaluation.until("waits")
    holder.kill()
    evaluation.until("begins")
    holder = start(SMALL.format(0, "a"))
    holder.until("waits")
    evaluation.says("end of the turn")
    evaluation.until("ended")
    assert holder.card() == "0"


def test_a_job_that_is_killed_in_its_turn_gives_its_slot_back(start):
    evaluation = start(SMALL.format(0, "a"), turns=True)
    evaluation.says("turn")
    evaluation.until("begins")
    holder = start(SMALL.format(0, "a"))
    holder.until("waits")
    evaluation.kill()
    assert holder.card() == "0"


def test_jobs_of_turns_are_spread_evenly(start):
    """They hold no slot that could be counted: the card that was chosen longest ago comes next."""
    cards = [LARGE.format(number, number) for number in range(3)]
    jobs = [start(*cards, turns=True) for _ in range(6)]
    assert Counter(job.card() for job in jobs) == {"0": 2, "1": 2, "2": 2}
    full = [start(*cards, CUDA_VISIBLE_DEVICES=name) for name in ("0", "2")]
    assert [job.card() for job in full] == ["0", "2"]
    assert start(*cards, turns=True).card() == "1"


@pytest.fixture
def turns(clear, monkeypatch) -> Iterator[list[str]]:
    """This process has chosen one of two stand-in cards and holds no slot; yields the names of its turns' cards."""
    taken = []
    take = gpus._Lease.take
    monkeypatch.setattr(gpus._Lease, "take", lambda lease: (take(lease), taken.append(lease.card)))
    monkeypatch.setattr(gpus, "visible_cards", lambda: {"0": 1, "1": 1})
    with gpus.lease_gpu(hold=False):
        yield taken


def in_turn() -> bool:
    return gpus._lease.held is not None


def test_batches_are_computed_in_a_turn(turns):
    held = in_batches(lambda rows: (in_turn(), len(rows)), torch.zeros(5), size=2)
    assert held == [(True, 2), (True, 2), (True, 1)]
    assert not in_turn()
    assert turns == ["0"]
    with gpus.slot() as outer, gpus.slot() as inner:  # one slot is enough
        assert outer and not inner
        assert in_batches(lambda rows: in_turn(), torch.zeros(1), size=1) == [True]
        assert in_turn()
    assert turns == ["0", "0"]
    with pytest.raises(ZeroDivisionError):
        in_batches(lambda rows: 1 / 0, torch.zeros(1), size=1)
    assert not in_turn()


def test_threads_share_a_slot_and_none_is_lost(clear, monkeypatch):
    """Two that compute at once: the second slot of the process would never have been given back."""
    cards, meet = {"0": 4}, threading.Barrier(2)
    take = gpus._Lease.take
    monkeypatch.setattr(gpus._Lease, "take", lambda lease: (time.sleep(0.1), take(lease)))
    monkeypatch.setattr(gpus, "visible_cards", lambda: cards)

    def compute() -> None:
        meet.wait()
        with gpus.slot():
            time.sleep(0.1)

    with gpus.lease_gpu(hold=False):
        threads = [threading.Thread(target=compute) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with gpus._free_slots(gpus._folder(), cards) as free:
            assert len(free["0"]) == 4


def test_evaluation_uses_networks_in_a_turn_and_solvers_outside(fake, turns, monkeypatch):
    """Every layer that computes does so while a slot is held; the probes, which use the CPU, run while none is."""
    monkeypatch.setattr("bvae.evaluation.protocol.CLASSIFIER_STEPS", 3)
    run = Run("recipe", SETTINGS, "fake", "vae", 4, 0)
    model, _ = build_model(run, channels=1, size=8)
    layers, probes = [], []

    class Layers(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function in (torch.nn.functional.linear, torch.conv2d):
                layers.append(in_turn())
            return function(*args, **(kwargs or {}))

    def probe(*args, **named):
        probes.append(in_turn())
        return linear_probes(*args, **named)

    monkeypatch.setattr(trained, "linear_probes", probe)
    with Layers():
        reference = make_reference(fake, "classifier", CPU)
        finished = trained.Trained(model.eval(), run, fake, CPU, {"importance": SHORT_SWEEP}, [reference])
        assert all(task.compute(finished) for task in TASKS.values())
        evaluate_untrained(run, fake, CPU)
    assert len(layers) > 100 and all(layers)
    assert len(probes) > 3 and not any(probes)
    assert not in_turn()


# --- the steps and the workflow --------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["auto", "cuda", "cpu"])
def test_a_step_that_may_compute_on_a_gpu_leases_one(tmp_path, monkeypatch, device):
    """Training holds a slot, evaluation takes turns, what has no device leases nothing."""
    leases = []

    def lease_gpu(*, hold: bool):
        leases.append(hold)
        return contextlib.nullcontext()

    monkeypatch.setattr(gpus, "lease_gpu", lease_gpu)
    monkeypatch.setattr("bvae.__main__._start_logging", lambda path: None)  # the root logger is other tests', too
    missing = str(tmp_path / "missing.yaml")
    monkeypatch.chdir(tmp_path)
    assert main(["reference", "missing-classifier", "--device", device]) == 1
    assert main(["evaluate", missing, "run", "--device", device]) == 1
    assert main(["train", missing, "run", "--device", device]) == 1
    assert main(["cost", missing, "group", "--device", device]) == 1
    assert main(["data", "describe", missing]) == 1
    assert leases == ([] if device == "cpu" else [False, False, True, True])


PROBE = """
configfile: "config/quick.yaml"
include: "workflow/rules/common.smk"
limits = {name: workflow.global_resources[name].value for name in sorted(workflow.global_resources) if "gpu" in name}
print("LIMITS", limits, "an evaluation asks for", GPU_OF_TURNS, "gpu")
rule all:
"""


@pytest.mark.parametrize(
    ("cards", "options", "limits"),
    [
        ([LARGE.format(0, "a"), SMALL.format(1, "b")], "", "{'gpu': 5, 'gpu_turns': 20} an evaluation asks for 0 gpu"),
        ([LARGE.format(0, "a")], "--resources gpu=2", "{'gpu': 2, 'gpu_turns': 16} an evaluation asks for 0 gpu"),
        ([LARGE.format(0, "a")], "--jobs 9", "{} an evaluation asks for 1 gpu"),  # as for every cluster
    ],
)
def test_snakemake_runs_as_many_jobs_as_there_are_slots(plan, tmp_path, cards, options, limits):
    """Without a word in a profile; on a cluster there is no limit, and all jobs that compute ask for a GPU."""
    (plan / "probe.smk").write_text(PROBE)
    path = fake_nvidia_smi(tmp_path, *cards)
    named = ",".join(row[0] for row in cards)
    run = ("-n", "-s", "probe.smk", "--workflow-profile", "none", "--cores", "1", *options.split())
    done = snakemake(plan, *run, PATH=path, CUDA_VISIBLE_DEVICES=named)
    assert f"LIMITS {limits}\n" in done.stdout, done.stdout
