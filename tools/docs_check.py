"""`make docs-check`, beside the tests of the pages: what they tell a reader to do is done, from a fresh clone.

* Every command of the PAGES, in its order, in a clone of the last commit. Those that take hours are planned
  (`snakemake -n`), those of LEFT are not run; every other one is run once, as it is written.
* A wheel is built and installed in an environment of its own, where the README's lines train a BVAE.
* CITATION.cff and the RO-Crate of a published study pass their validators, which are in .venv/check.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from helpers.checkouts import ROOT
from helpers.own_data import bring_birds

PAGES = ("README.md", "docs/extending.md", "docs/running.md", "docs/notebook.md", "CONTRIBUTING.md")
COMMAND = re.compile(r"(?m)^ {4,7}((?:[A-Z_]+=\S+ )*(?:make|snakemake|python|pip|conda)(?: .*?)?)(?:  +#.*)?$")
PLANNED = (  # hours, or a mirror that is not there
    "make mnist",
    "snakemake --configfile config/mnist_mlp.yaml",
    "snakemake",
    "snakemake --configfile config/mnist.yaml",
    "BVAE_MIRROR=/path/to/mirror snakemake",
    "make report STUDY=mnist",
)
LEFT = {
    "make test": "the tests themselves",
    "make test-all": "the tests themselves",
    "make lint": "the tests themselves",
    "pip install -r requirements.lock": "`make` does",
    "python -m bvae rates config/tuning_STUDY.yaml": "needs a finished study that tunes",
    "snakemake --configfile config/mnist_mlp.yaml --"
    " results/runs/mlp-067d7e1f/mnist/bvae-z128-seed0/metrics-556037ca.json": "some minutes, and its numbers are of one"
    " kind of processor",
    "python -m bvae verify results/published/mnist_mlp-1": "needs that run",
    "conda env create -f environment.yml && conda activate bvae": "pip installs the same versions",
    "pip install snakemake-executor-plugin-slurm": "`make slurm` does",
    "snakemake --workflow-profile profiles/slurm --default-resources slurm_account=yours slurm_partition=gpu": "needs a"
    " cluster; `make slurm` tries one",
}
INLINE = ("python -m bvae --help", "python -m bvae fetch --help")  # commands within sentences
CHECK = ROOT / ".venv/check/bin"  # of the validators


def commands(pages: str) -> list[str]:
    """The commands of the pages' indented lines, in their order, each once and without its comment, then INLINE."""
    found = list(dict.fromkeys(COMMAND.findall(pages)))
    absent = {*PLANNED, *LEFT} - {*found} | {command for command in INLINE if f"`{command}`" not in pages}
    if absent:
        sys.exit(f"the pages do not have these commands, which PLANNED, LEFT or INLINE name: {sorted(absent)}")
    return [*found, *INLINE]


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took."""
    begun = time.monotonic()
    yield
    print(f"{time.monotonic() - begun:6.0f} s  {what}", flush=True)


def do(command: str | list[str], folder: Path, programs: Path) -> str:
    """Run a command as in a new shell in `folder`, with the environment of `programs`; end here if it fails."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MAKEFLAGS", "MFLAGS")}
    settings = inherited | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    shell = isinstance(command, str)
    done = subprocess.run(
        command, shell=shell, cwd=folder, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{command} in {folder}: exit status {done.returncode}\n{done.stdout[-6000:]}")
    return done.stdout


def follow_the_pages(clone: Path) -> None:
    """Every command of the pages, in its order."""
    programs = clone / ".venv/bin"
    bring_birds(clone, n_train=1000, n_test=200)
    for command in commands("\n".join((clone / page).read_text(encoding="utf-8") for page in PAGES)):
        if command in LEFT:
            print(f"   left   {command}: {LEFT[command]}")
            continue
        planned = command in PLANNED
        with timed(f"{command}{'  (planned)' if planned else ''}"):
            do(f"{command} -n" if planned else command, clone, programs)
    for made in ("quick/tables/table1.csv", "quick/report.html", "birds/tables/table1.csv"):
        if not (clone / "results/studies" / made).exists():
            sys.exit(f"the commands of the pages have not made results/studies/{made}")


def install_a_wheel(clone: Path, folder: Path, readme: str) -> None:
    """Build a wheel, install it in an environment of its own, and run the README's lines there."""
    here, programs = Path(sys.executable).parent, folder / "environment/bin"
    with timed("a wheel, built and installed"):
        do([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(clone)], folder, here)
        [wheel] = folder.glob("*.whl")
        do([sys.executable, "-m", "venv", str(folder / "environment")], folder, here)
        do(
            ["python", "-m", "pip", "install", "-q", "-c", str(clone / "requirements.lock"), str(wheel)],
            folder,
            programs,
        )
    [lines] = re.findall(r"```python\n(import .*?)```", readme, re.DOTALL)
    check = "errors = [(digits - shown).square().mean().item() for shown in (pictures, digits.mean(0))]\n"
    check += "assert errors[0] < 0.5 * errors[1], errors\nprint(errors)\n"
    (folder / "lines.py").write_text(lines + check)
    with timed("the README's lines, in that environment"):
        do(["python", "lines.py"], folder, programs)
        do(["bvae", "--version"], folder, programs)


def main() -> None:
    """Everything above, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="bvae-docs-") as name:
        folder = Path(name).resolve()
        clone = folder / "clone"
        do(["git", "clone", "-q", str(ROOT), str(clone)], folder, CHECK)
        readme = (clone / "README.md").read_text(encoding="utf-8")
        follow_the_pages(clone)
        with timed("cffconvert --validate"):
            do("cffconvert --validate", clone, CHECK)
        with timed("roc-validator"):
            do("python tools/validate_crate.py results/published/mnist_mlp-1", clone, CHECK)
        (folder / "wheel").mkdir()
        install_a_wheel(clone, folder / "wheel", readme)
    print("the pages hold")


if __name__ == "__main__":
    main()
