"""`make slurm`: the quick study through a real SLURM of one node, to the tables of an ordinary run.

It starts munged, slurmctld and slurmd of its own on the loopback interface, with their files in a temporary folder, and
ends them. Jobs of the plugin find a cluster in /etc/slurm alone, so a link stands there meanwhile; where there is a
configuration already, nothing is done. It needs root and Debian's packages slurm-wlm and munge.
"""

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bvae.system.files import read_yaml
from helpers.checkouts import ROOT, environment
from tools import torture

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={port_of_node}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=16000 Gres=gpu:2
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
CARDS = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"  # SLURM counts devices: these stand for two GPUs
INSTALLED = Path("/etc/slurm/slurm.conf")
OPTIONS = ["--workflow-profile", "profiles/slurm", "--cores", "2"]
OPTIONS += ["--default-resources", "slurm_account=root", "slurm_partition=main", "mem_mb=3000", "runtime=30"]
OPTIONS += ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "5"]  # no accounting here


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """A SLURM of one node for the time of the block; yields the environment in which commands run."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if missing:
        sys.exit(f"not found: {', '.join(missing)}. A SLURM of one node needs Debian's slurm-wlm and munge")
    if os.geteuid() != 0:
        sys.exit("a SLURM of one node is started by root alone")
    if INSTALLED.exists():
        sys.exit(f"{INSTALLED}: this machine belongs to a SLURM already; run this on another one")
    for part in ("state", "spool"):
        (folder / part).mkdir()
    configuration, key = folder / "slurm.conf", folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    places = {"host": platform.node(), "folder": folder, "cores": os.cpu_count(), "port": 16817, "port_of_node": 16818}
    configuration.write_text(CONFIGURATION.format(**places))
    (folder / "gres.conf").write_text(CARDS)
    settings = environment()
    munge = [f"--socket={folder}/munge.socket", f"--key-file={key}", f"--pid-file={folder}/munged.pid"]
    munge += [f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed"]
    commands = [["munged", "--foreground", "--force", *munge]]
    commands += [["slurmctld", "-D", "-f", str(configuration)], ["slurmd", "-D", "-f", str(configuration)]]
    daemons = []
    INSTALLED.unlink(missing_ok=True)  # a link that a killed test left
    INSTALLED.symlink_to(configuration)
    try:
        for command in commands:
            with open(folder / f"{command[0]}.out", "wb") as out:
                daemons.append(subprocess.Popen(command, env=settings, stdout=out, stderr=subprocess.STDOUT))
            time.sleep(2)
        _wait_until_idle(settings, folder)
        yield settings
    finally:
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(30)
        INSTALLED.unlink()


def _wait_until_idle(settings: dict[str, str], folder: Path) -> None:
    for _ in range(60):
        found = subprocess.run(["sinfo", "-h", "-o", "%T"], env=settings, capture_output=True, text=True)
        if found.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in sorted(folder.glob("*.out")))
    sys.exit(f"SLURM does not start: sinfo says {found.stdout.strip() or found.stderr.strip()}\n{logs}")


def main() -> None:
    """Run the quick study here and through SLURM, and compare."""
    study = read_yaml(ROOT / "config/quick.yaml")
    with tempfile.TemporaryDirectory(prefix="bvae-slurm-") as name:
        folder = Path(name).resolve()
        here = torture.prepare(folder / "here", study)
        log = folder / "here.log"
        torture.check(torture.start(here, log).wait(torture.PATIENCE), log)
        through = torture.prepare(folder / "slurm", study)
        with cluster(folder) as settings:
            command = [sys.executable, "-m", "snakemake", *OPTIONS, "--configfile", "config/torture.yaml"]
            begun = time.monotonic()
            done = subprocess.run(command, cwd=through, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            said = done.stdout.decode(errors="replace")
            if done.returncode:
                logs = [path.read_text(errors="replace") for path in (through / ".snakemake/slurm_logs").rglob("*.log")]
                sys.exit("\n".join(["snakemake failed:", said[-6000:], *(text[-3000:] for text in logs)]))
        submitted = said.count("has been submitted with SLURM jobid")
        torture.compare(torture.results(through), wanted := torture.results(here), through)
        print(f"{submitted} jobs through SLURM in {time.monotonic() - begun:.0f} s: the same {len(wanted)} files")


if __name__ == "__main__":
    main()
