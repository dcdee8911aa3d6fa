"""The performance benchmark, `make benchmark`: every row as ours, theirs and their ratio, measured side by side.

Each measurement is a process of its own (measure.py). Those that are compared alternate, so that what disturbs the
machine meets all of them; a row is the median over the repetitions with their range. Run from the repository's root on
an idle machine; it takes about half an hour.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from importlib import metadata
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import yaml

ROOT = Path(__file__).resolve().parents[1]
MEASURE = ROOT / "tools/measure.py"
PEERS = {"pythae": "pythae", "loop": "plain loop"}
IMPORTS = {  # what the jobs of a rule import
    "train": "bvae.data, bvae.runs, torch._dynamo",
    "evaluate": "bvae.data, bvae.evaluation.evaluate, sklearn.linear_model, sklearn.mixture, sklearn.manifold",
    "figures": "bvae.report.figures._pictures, bvae.report.figures._plots",
    "tsne": "bvae.report.figures._pictures, sklearn.manifold",
    "reference": "bvae.data, bvae.evaluation.references, torch._dynamo",
    "table": "bvae.report.tables",
    "claims": "bvae.report.claims",
}


@dataclass
class Row:
    """One line of the benchmark: one number a repetition in `ours`, and in `theirs`, which is empty for a time."""

    name: str
    unit: str
    goal: str
    bound: float  # of the median of ratio, or of ours where there is no ratio
    highest: bool  # whether `bound` is an upper one
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    note: str = ""
    by_range: bool = False  # whether it is enough that the range of the repetitions includes the bound

    @property
    def ratio(self) -> list[float]:
        """ours / theirs of each repetition."""
        return [mine / other for mine, other in zip(self.ours, self.theirs, strict=True)] if self.theirs else []

    @property
    def reached(self) -> bool | None:
        """Whether the median keeps the goal; None where nothing was measured."""
        found = self.ratio or self.ours
        if not found:
            return None
        best = min(found) if self.highest else max(found)
        judged = best if self.by_range else statistics.median(found)
        return judged <= self.bound if self.highest else judged >= self.bound


class Bench:
    """The settings of a benchmark and the ways to measure."""

    def __init__(self, args: argparse.Namespace, scratch: Path):
        self.args, self.scratch = args, scratch
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(args.threads)}

    @cached_property
    def ceilings(self) -> dict:
        """The device, what it does at best, and the precision that `auto` is on it."""
        return self.measure("ceilings")

    @cached_property
    def costs(self) -> dict:
        """The cost of each arm."""
        return self.measure("costs")

    def start(self, what: str, who: str = "-", *options: object, data: Path | None = None) -> subprocess.Popen:
        """Begin a measurement."""
        command = [sys.executable, MEASURE, what, who, data or self.args.data, "--device", self.args.device, *options]
        if "--threads" not in options:
            command += ["--threads", self.args.threads]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([str(part) for part in command], env=self.environment, cwd=ROOT, **pipes)

    def finish(self, process: subprocess.Popen) -> dict:
        """What a measurement found."""
        output, errors = process.communicate()
        if process.returncode != 0:
            sys.exit(f"a measurement failed: {' '.join(process.args)}\n{errors[-3000:]}")
        return json.loads(output.strip().splitlines()[-1])

    def measure(self, what: str, who: str = "-", *options: object, data: Path | None = None) -> dict:
        """One measurement, to its end."""
        return self.finish(self.start(what, who, *options, data=data))

    def speed(self, who: str, *options: object) -> float:
        """Images a second of a trainer."""
        if "--images" not in options:
            options += ("--images", self.args.images)
        return self.measure("training", who, *options)["images_per_second"]

    def repeat(self, variants: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
        """Every variant in turn, so often."""
        found: dict[str, list[float]] = {name: [] for name in variants}
        for repetition in range(self.args.repetitions):
            for name, measure in variants.items():
                found[name].append(measure())
                print(f"{repetition + 1}/{self.args.repetitions} {name}: {found[name][-1]:.4g}", flush=True)
        return found

    def wall(self, *command: object, cwd: Path, **environment: str) -> float:
        """Seconds of a command."""
        started = time.perf_counter()
        command = [str(part) for part in command]
        done = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"failed: {' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
        return time.perf_counter() - started


def best_workers(bench: Bench, who: str) -> int:
    """The number of a peer's loading processes with which it is fastest here."""
    speeds = {count: bench.speed(who, "--workers", count) for count in bench.args.workers}
    print(f"{who}, images a second by workers: {speeds}", flush=True)
    return max(speeds, key=speeds.get)


def training_rows(bench: Bench) -> list[Row]:
    """Our training against the bare step, pythae and a plain loop, over the same untied network."""
    peers = [who for who in PEERS if who != "pythae" or installed("pythae")]
    workers = {who: best_workers(bench, who) for who in peers}
    fast = bench.ceilings["auto_precision"]
    variants: dict[str, Callable[[], float]] = {}
    for precision in dict.fromkeys(("float32", fast)):
        for who in ("ours", "bare"):
            variants[f"{who} {precision}"] = lambda who=who, p=precision: bench.speed(who, "--precision", p)
    for who in peers:
        variants[who] = lambda who=who: bench.speed(who, "--workers", workers[who])
    found = bench.repeat(variants)
    rows = []
    for precision in dict.fromkeys(("float32", fast)):
        mine = found[f"ours {precision}"]
        rows.append(
            Row(
                f"training / bare step, {precision}",
                "images/s",
                "≥ 0.97",
                0.97,
                False,
                mine,
                found[f"bare {precision}"],
            )
        )
        for who, goals in (("pythae", (1.3, 1.75)), ("loop", (1.25, 1.7))):
            goal = goals[precision == "bfloat16"]
            row = Row(f"training / {PEERS[who]}, {precision}", "images/s", f"≥ {goal}", goal, False)
            if who in found:
                row.ours, row.theirs = mine, found[who]
                row.note = f"theirs: float32, {workers[who]} workers"
            else:
                row.note = "pythae is not installed"
            rows.append(row)
    return rows


def arm_rows(bench: Bench) -> list[Row]:
    """The BVAE beside its matched VAE, their steps in turn in one process."""
    precision = bench.ceilings["auto_precision"]
    found = bench.measure("arms", "-", "--precision", precision, "--repetitions", bench.args.repetitions)
    state = [bench.costs[arm]["training_state_mb"] for arm in ("bvae", "vae")]
    names = f"step of the BVAE / of the VAE, {precision}", "weights, gradients and moments of the BVAE / VAE"
    return [
        Row(names[0], "s an image", "1.00 in range", 1.0, True, found["bvae"], found["vae"], by_range=True),
        Row(names[1], "MiB", "≤ 0.52", 0.52, True, [state[0]], [state[1]], "counted"),
    ]


def split_rows(bench: Bench) -> list[Row]:
    """Two jobs of one thread against one job of two."""
    precision = bench.ceilings["auto_precision"]
    options = ("--precision", precision, "--images", bench.args.images)

    def two_jobs() -> float:
        jobs = [bench.start("training", "ours", *options, "--threads", 1) for _ in range(2)]
        return sum(bench.finish(job)["images_per_second"] for job in jobs)

    found = bench.repeat({"two jobs": two_jobs, "one job": lambda: bench.speed("ours", *options, "--threads", 2)})
    name = f"two jobs of one thread / one of two, {precision}"
    return [Row(name, "images/s", "≥ 1", 1.0, False, found["two jobs"], found["one job"])]


def scaling_rows(bench: Bench) -> list[Row]:
    """Time an image with few images and with many."""
    found = bench.measure("scaling", "-", "--repetitions", bench.args.repetitions)
    name = f"time an image, {found['images']['many']:,} images / {found['images']['few']:,}"
    return [Row(name, "s an image", "≤ 1.05", 1.05, True, found["many"], found["few"])]


def evaluation_rows(bench: Bench) -> list[Row]:
    """One evaluation of an MNIST run, all four tasks, without the sweep of the NLL."""
    folder = bench.scratch / "run"
    bench.measure("prepare", "-", "--folder", folder, "--arm", "bvae", "--epochs", 1)
    found = bench.repeat({"evaluation": lambda: bench.measure("evaluation", "-", "--folder", folder)["seconds"]})
    return [Row("evaluation of one run, NLL sweep aside", "s", "≤ 60", 60, True, found["evaluation"])]


def import_rows(bench: Bench) -> list[Row]:
    """What a job costs beyond its own work: Python's start and its imports."""
    found = bench.repeat(
        {
            rule: lambda modules=modules: bench.wall(sys.executable, "-c", f"import {modules}", cwd=ROOT)
            for rule, modules in IMPORTS.items()
        }
    )
    return [Row(f"start and imports of a job: {rule}", "s", "≤ 2.5", 2.5, True, times) for rule, times in found.items()]


def quick_rows(bench: Bench) -> list[Row]:
    """The quick study in a fresh copy, from nothing to its last figure."""

    def quick() -> float:
        checkout = copy_of_repository(bench.scratch)
        return bench.wall(sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/quick", "-q", cwd=checkout)

    found = bench.repeat({"quick study": quick})
    return [Row("`make quick`, all jobs, after installation", "s", "≤ 90", 90, True, found["quick study"])]


def plan_rows(bench: Bench) -> list[Row]:
    """`snakemake -n` of a study of 1,000 runs."""
    config = yaml.safe_load((ROOT / "config/quick.yaml").read_text(encoding="utf-8"))
    config["blocks"][0]["seeds"] = list(range(250))
    checkout = copy_of_repository(bench.scratch)
    (checkout / "many.yaml").write_text(yaml.safe_dump(config))
    command = (sys.executable, "-m", "snakemake", "-n", "-q", "--configfile", "many.yaml")
    found = bench.repeat({"plan": lambda: bench.wall(*command, cwd=checkout)})
    return [Row("`snakemake -n` of 1,000 runs", "s", "≤ 3", 3, True, found["plan"])]


def memory_rows(bench: Bench) -> list[Row]:
    """Memory that training on CelebA's size takes beyond the data set's file."""
    path = bench.scratch / "celeba.safetensors"
    bench.measure("celeba", "-", "--images", bench.args.celeba_images, data=path)
    found = bench.measure("memory", data=path)
    path.unlink()
    note = f"data set of {found['data_mib']:.0f} MiB, anonymous memory, small network, once"
    return [
        Row("training on CelebA's size, beyond its data", "MiB", "≤ 1024", 1024, True, [found["beyond_mib"]], note=note)
    ]


GROUPS: dict[str, Callable[[Bench], list[Row]]] = {
    "training": training_rows,
    "arms": arm_rows,
    "split": split_rows,
    "scaling": scaling_rows,
    "evaluation": evaluation_rows,
    "imports": import_rows,
    "plan": plan_rows,
    "memory": memory_rows,
    "quick": quick_rows,
}


def copy_of_repository(scratch: Path) -> Path:
    """A fresh copy of what git knows of the repository, without results."""
    target = scratch / "checkout"
    shutil.rmtree(target, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if not name.startswith(("results/", "tests/")) and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def installed(package: str) -> bool:
    """Whether a peer is there."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


# --------------------------------------------------------------------------------------------------------------------
# What is written
# --------------------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three digits, and no exponent for large numbers."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def middle(values: list[float]) -> str:
    """The median of repetitions, and their range."""
    if not values:
        return "–"
    if len(values) == 1:
        return number(values[0])
    return f"{number(statistics.median(values))} ({number(min(values))} to {number(max(values))})"


def as_markdown(report: dict, rows: list[Row]) -> str:
    """The benchmark as a page."""
    lines = [
        "# Performance",
        "",
        f"Made by `make benchmark` on {report['machine']}, {report['threads']} threads, device {report['device']},"
        f" torch {report['versions']['torch']}, pythae {report['versions']['pythae']}: medians of"
        f" {report['repetitions']} interleaved repetitions, with their range. Network: the small residual"
        " one of `config/mnist.yaml`, untied (the VAE), batches of 64.",
        "",
        "| | ours | theirs | ratio | goal | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        verdict = {True: "reached", False: "**missed**", None: "not measured"}[row.reached]
        verdict = f"{verdict}; {row.note}" if row.note else verdict
        cells = (f"{row.name}, {row.unit}", middle(row.ours), middle(row.theirs), middle(row.ratio), row.goal, verdict)
        lines.append(f"| {' | '.join(cells)} |")
    found = report["ceilings"]
    gflops = {name.removeprefix("gflops_"): value for name, value in found.items() if name.startswith("gflops_")}
    products = (f"{value:.0f} GFLOP/s in {precision}" for precision, value in gflops.items())
    allowed = (f"{1e3 * value / report['mflop_an_image']:,.0f} in {precision}" for precision, value in gflops.items())
    lines += [
        "",
        f"Ceilings: {' and '.join(products)} (products of 2,048 x 2,048 matrices),"
        f" {found['copy_gb_per_second']:.1f} GB/s (a copy of 256 MiB, read and written). A training step takes"
        f" {report['mflop_an_image']:.0f} MFLOP an image (multiply-accumulates of both directions, twice as many again"
        f" for the gradients), so that arithmetic alone allows {' and '.join(allowed)}, images/s.",
        "",
    ]
    return "\n".join(lines)


def draw(rows: list[Row], path: Path) -> None:
    """Bars of every ratio with its range and its goal."""
    shown = [row for row in rows if row.ratio]
    figure, axes = plt.subplots(figsize=(9, 0.36 * len(shown) + 1.1), layout="constrained")
    places = range(len(shown))
    medians = [statistics.median(row.ratio) for row in shown]
    ranges = [(min(row.ratio), max(row.ratio)) for row in shown]
    below = [m - low for m, (low, _) in zip(medians, ranges, strict=True)]
    above = [high - m for m, (_, high) in zip(medians, ranges, strict=True)]
    colours = ["#0072b2" if row.reached else "#d55e00" for row in shown]
    axes.barh(places, medians, xerr=(below, above), color=colours, height=0.62, error_kw={"lw": 1, "ecolor": "0.25"})
    axes.scatter([row.bound for row in shown], places, marker="|", s=260, color="black", zorder=3)
    names = [f"{row.name}  (goal {row.goal})" for row in shown]
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("ours / theirs: median and range; blue where the goal is reached")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    """Measure everything and write performance.json, .md and .png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("resources/data/mnist.safetensors"))
    parser.add_argument("--output", type=Path, default=Path("results/published"), help="folder for performance.*")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--images", type=int, default=4096, help="images of one timing of training")
    parser.add_argument("--celeba-images", type=int, default=162_770)
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 2))
    parser.add_argument("--workers", type=int, nargs="+", default=(0, 1, 2), help="of a peer's loader, to choose from")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--groups", nargs="+", choices=GROUPS, default=list(GROUPS), help="of rows to measure; the others stay"
    )
    args = parser.parse_args()
    if not args.data.is_file():
        parser.error(f"--data {args.data}: no such file, expected a data set file. Make it: snakemake -- {args.data}")
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output {args.output}: cannot be made a folder ({error.strerror}). Choose another.")
    matplotlib.use("Agg")
    args.data = args.data.absolute()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(args, Path(scratch))
        conditions = {
            "machine": f"{cpu_name()}, {os.cpu_count()} cores",
            "device": bench.ceilings["device"],
            "threads": args.threads,
            "repetitions": args.repetitions,
            "versions": {
                name: metadata.version(name) if installed(name) else "not installed" for name in ("torch", "pythae")
            },
        }
        rows = rows_that_stay(args.output / "performance.json", args.groups, conditions)
        rows |= {group: GROUPS[group](bench) for group in args.groups}
        report = conditions | {
            "ceilings": bench.ceilings,
            "mflop_an_image": bench.costs["vae"]["mflop_of_training"],
        }
    shown = [row for group in GROUPS for row in rows.get(group, [])]
    report["rows"] = {
        group: [asdict(row) | {"ratio": row.ratio, "reached": row.reached} for row in rows[group]]
        for group in GROUPS
        if group in rows
    }
    (args.output / "performance.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (args.output / "performance.md").write_text(as_markdown(report, shown), encoding="utf-8")
    draw(shown, args.output / "performance.png")
    print(as_markdown(report, shown))


def rows_that_stay(path: Path, measured: list[str], conditions: dict) -> dict[str, list[Row]]:
    """The rows of an earlier benchmark by group, but for those measured now; its conditions must be the same."""
    if not path.exists() or set(measured) == set(GROUPS):
        return {}
    report = json.loads(path.read_text(encoding="utf-8"))
    for name, wanted in conditions.items():
        if report[name] != wanted:
            sys.exit(
                f"{path}: its {name} was {report[name]}, now it is {wanted}: rows of both cannot stand in one table."
                " Measure all groups, or choose another --output."
            )
    found = report["rows"]
    names = {one.name for one in fields(Row)}
    return {
        group: [Row(**{name: value for name, value in row.items() if name in names}) for row in rows]
        for group, rows in found.items()
        if group not in measured
    }


def cpu_name() -> str:
    """The processor, as Linux names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
