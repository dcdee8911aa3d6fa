"""A checkout of its own, in a folder with spaces and an umlaut in its name, and Snakemake run in it as a user would."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
CHECKOUT = "bvae benchmark ü"  # a name with spaces and an umlaut
QUICK = ("--workflow-profile", "profiles/quick")
PARTS = ("Snakefile", "workflow", "bvae", "config", "profiles", "environment.yml", "pyproject.toml")


def make_checkout(parent: Path) -> Path:
    """Copy the workflow and the package, without any result, into `parent` / CHECKOUT."""
    checkout = parent / CHECKOUT
    checkout.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, checkout / part)
    return checkout


def finished_once(folder: Path, name: str, *arguments: str, edit: Callable[[Path], object] = lambda _: None) -> Path:
    """A checkout below the session's folder in which Snakemake has run to its end, once for all workers.

    `edit` may change the checkout before.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers
    checkout, log = folder / name / CHECKOUT, folder / f"{name}.log"
    with FileLock(folder / f"{name}.lock"):
        if not log.exists():
            make_checkout(checkout.parent)
            edit(checkout)
            log.write_text(snakemake(checkout, *arguments).stdout)
    assert (checkout / f"results/studies/{name}/claims.csv").exists(), log.read_text()[-6000:]
    return checkout


def environment(**more: str) -> dict[str, str]:
    """The environment of a new shell in which the package's Python is first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {key: value for key, value in os.environ.items() if key not in ("BVAE_MIRROR", "PYTHONPATH")}
    return inherited | {"PATH": path} | more


def run_in(checkout: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    """Run `python ARGUMENTS` in the checkout, `more` in its environment; stdout and stderr together in `.stdout`."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=checkout,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def snakemake(checkout: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    """Run Snakemake in the checkout."""
    return run_in(checkout, "-m", "snakemake", *arguments, **more)


def with_protocol(folder: Path, **constants: object) -> Path:
    """A folder for PYTHONPATH in which every process of a test finds other constants in bvae.evaluation.protocol."""
    patch = folder / "patch"
    patch.mkdir()
    changes = "".join(f"    protocol.{name} = {value!r}\n" for name, value in constants.items())
    module = f"try:\n    from bvae.evaluation import protocol\nexcept ImportError:\n    pass\nelse:\n{changes}"
    (patch / "sitecustomize.py").write_text(module)
    return patch
