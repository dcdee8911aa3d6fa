"""`make torture`: a study killed at random moments and run again must end in the very bytes of one left in peace.

In copies of the checkout, the study runs once undisturbed, and then again and again while SIGKILL meets a job,
Snakemake, or all of them at once, at random moments; after each kill the same command is given again. When the study
has ended and kills are left, its results are deleted and it begins anew. Every end is compared: all results but
timings, and nothing may be left running or half-written. Then the study runs from nothing, in peace, with 1, 2, 3 and 4
jobs at once in turn, and must end in one set of bytes.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil
import yaml

from bvae.errors import InputError
from bvae.study.config import check_study
from bvae.system.files import read_yaml, sha256_of_file
from helpers.checkouts import QUICK, ROOT, environment, make_checkout

TIMINGS = ("table3.*", "costs/*/*.json", "made_from/table.json")  # what may differ from run to run
VICTIMS = ("job", "snakemake", "all")
PATIENCE = 1800  # seconds for one run of the study


def start(checkout: Path, log: Path, *arguments: str) -> subprocess.Popen:
    """Snakemake on config/torture.yaml of a checkout, in a process group of its own."""
    command = [sys.executable, "-m", "snakemake", *QUICK, "--configfile", "config/torture.yaml", *arguments]
    with log.open("a") as stream:
        settings = {"cwd": checkout, "env": environment(), "stdout": stream, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, start_new_session=True, **settings)


def at_work(checkout: Path) -> list[psutil.Process]:
    """Every process whose working directory is the checkout."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == checkout and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def strike(checkout: Path, snakemake: subprocess.Popen, victim: str, dice: random.Random) -> str:
    """Kill one job, Snakemake alone, or everything; what was hit."""
    everything = at_work(checkout)
    jobs = [process for process in everything if "bvae" in _command(process)]
    if victim == "job" and jobs:
        targets = [dice.choice(jobs)]
    elif victim == "snakemake":
        targets = [process for process in everything if process.pid == snakemake.pid]
    else:
        targets = everything
    steps = sorted({_step(process) for process in targets})
    for process in targets:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    return f"{victim} ({', '.join(steps)})"


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _step(process: psutil.Process) -> str:
    words = _command(process)
    return words[words.index("bvae") + 1] if "bvae" in words[:-1] else "snakemake" if "snakemake" in words else "shell"


def results(checkout: Path) -> dict[str, str]:
    """The SHA-256 of everything below results/ and resources/ but timings."""
    files = sorted(
        path
        for folder in ("results", "resources")
        for path in (checkout / folder).rglob("*")
        if path.is_file() and not any(path.match(pattern) for pattern in TIMINGS)
    )
    return {str(path.relative_to(checkout)): sha256_of_file(path) for path in files}


def check(code: int, log: Path) -> None:
    """Exit with Snakemake's log when its exit status is a failure's."""
    if code != 0:
        sys.exit(f"snakemake failed:\n{log.read_text(encoding='utf-8')[-4000:]}")


def compare(found: dict[str, str], wanted: dict[str, str], checkout: Path) -> None:
    """Exit with the names of what differs, is missing, is too much, or still runs."""
    differ = sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name])
    faults = [f"differs: {name}" for name in differ]
    faults += [f"missing: {name}" for name in sorted(wanted.keys() - found.keys())]
    faults += [f"left over: {name}" for name in sorted(found.keys() - wanted.keys())]
    for _ in range(
        100
    ):  # a trainer whose Snakemake was killed may be on its way out: its results are taken before it ends
        if not at_work(checkout):
            break
        time.sleep(0.1)
    faults += [f"still running: {process.pid} {' '.join(_command(process))}" for process in at_work(checkout)]
    if faults:
        sys.exit("\n".join(["The study did not end as it does undisturbed:", *faults]))


def prepare(folder: Path, study: dict) -> Path:
    """A checkout with a study as config/torture.yaml."""
    checkout = make_checkout(folder)
    (checkout / "config/torture.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    return checkout


def torture(folder: Path, study: dict, kills: int, longest: float, seed: int, targets: Sequence[str] = ()) -> Counter:
    """Run the study, or make `targets` of it, in peace, then under `kills` kills; how often each victim was hit."""
    dice, log = random.Random(seed), folder / "snakemake.log"
    peaceful = prepare(folder / "undisturbed", study)
    check(
        start(peaceful, log, "--cores", "1", "--", *targets).wait(PATIENCE), log
    )  # and no byte depends on how many jobs run at once
    wanted = results(peaceful)
    print(f"undisturbed: {len(wanted)} files", flush=True)
    disturbed, struck, ends = prepare(folder / "disturbed", study), Counter(), 0
    while struck.total() < kills or not ends:
        snakemake = start(disturbed, log, "--", *targets)
        moment = PATIENCE if struck.total() == kills else dice.uniform(0.5, longest)
        try:
            code = snakemake.wait(moment)
        except subprocess.TimeoutExpired:
            victim = VICTIMS[struck.total() % len(VICTIMS)]
            struck[victim] += 1
            hit = strike(disturbed, snakemake, victim, dice)
            print(f"{struck.total()}: after {moment:.1f} s: {hit}", flush=True)
            snakemake.wait(PATIENCE)  # one whose job was killed finishes what it can
            continue
        check(code, log)
        compare(results(disturbed), wanted, disturbed)
        ends += 1
        print(f"ended like the undisturbed study after {struck.total()} kills", flush=True)
        if struck.total() < kills:
            shutil.rmtree(disturbed / "results")
    return struck


def repeat(folder: Path, study: dict, times: int) -> None:
    """Run the study from nothing, with 1, 2, 3 and 4 jobs at once in turn; exit with what differs from the first."""
    log, wanted = folder / "snakemake.log", {}
    for number in range(1, times + 1):
        cores = (number - 1) % 4 + 1
        checkout = prepare(folder / f"repeat{number}", study)
        check(start(checkout, log, "--cores", str(cores)).wait(PATIENCE), log)
        found = results(checkout)
        compare(found, wanted := wanted or found, checkout)
        print(f"run {number} of {times}, --cores {cores}: the same {len(found)} files", flush=True)
        shutil.rmtree(checkout)


def read_study(path: Path) -> dict:
    """The study of a file, as it is written there. Raises InputError for one with a fault."""
    study = read_yaml(path)
    check_study(study, datasets=None)
    return study


def main() -> None:
    """Torture a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "config/quick.yaml")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--longest", type=float, default=25.0, help="seconds from a start to its kill, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--repeats", type=int, default=12, help="runs in peace afterwards, each from nothing")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bvae-torture-") as folder:
        folder, study = Path(folder).resolve(), read_study(args.config)
        struck = torture(folder, study, args.kills, args.longest, args.seed)
        counts = ", ".join(f"{count} of {victim}" for victim, count in struck.items())
        print(f"{struck.total()} kills ({counts}): the same bytes every time")
        repeat(folder, study, args.repeats)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
