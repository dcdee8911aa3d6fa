"""The performance benchmark runs and its rows are complete. What it measures is in no test: machines differ."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bvae.data import dataset as data
from bvae.networks import BVAE, VAE, Layout, parameter_breakdown
from bvae.objective import Bernoulli
from helpers.checkouts import run_in, with_protocol
from helpers.small import make_dataset

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tools/performance.py"
PUBLISHED = ROOT / "results/published"
GOALS = (  # what every machine is asked, without the precision that it has
    "training / bare step",
    "training / pythae",
    "training / plain loop",
    "step of the BVAE / of the VAE",
    "weights, gradients and moments of the BVAE / VAE",
    "two jobs of one thread / one of two",
    "time an image, 60,000 images / 1,000",
    "evaluation of one run, NLL sweep aside",
    "start and imports of a job: train",
    "start and imports of a job: evaluate",
    "`snakemake -n` of 1,000 runs",
    "training on CelebA's size, beyond its data",
    "`make quick`, all jobs, after installation",
)


def benchmark(folder: Path, *groups: str) -> dict[str, dict]:
    """The rows of some groups by name, measured once each, on a few fake images in MNIST's format."""
    fake = make_dataset(300, 120, size=28)
    tensors = fake.tensors()
    mnist = data.make(name="mnist", classes=fake.classes, source="here", licence="none", **tensors)
    data.save(mnist, folder / "mnist.safetensors")
    command = [sys.executable, SCRIPT, "--data", folder / "mnist.safetensors", "--output", folder, "--repetitions", "1"]
    command += ["--images", "128", "--celeba-images", "300", "--workers", "0", "--groups", *groups]
    environment = os.environ | {"PYTHONPATH": str(with_protocol(folder, COST_ROUNDS=1, COST_SECONDS=1e-4))}
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert (folder / "performance.png").stat().st_size > 5_000
    found = json.loads((folder / "performance.json").read_text())
    page = (folder / "performance.md").read_text()
    rows = [row for rows in found["rows"].values() for row in rows]
    for row in rows:
        assert f"| {row['name']}, {row['unit']} |" in page
        assert len(row["ours"]) == (0 if row["note"] == "pythae is not installed" else 1)
        assert all(0 < value < 1e6 for value in row["ours"] + row["theirs"])
        if row["theirs"]:
            assert row["ratio"] == [row["ours"][0] / row["theirs"][0]]
            kept = row["ratio"][0] <= row["bound"] if row["highest"] else row["ratio"][0] >= row["bound"]
            assert row["reached"] is kept
    return {row["name"].split(", float32")[0].split(", bfloat16")[0]: row for row in rows}


@pytest.mark.slow
def test_the_benchmark_in_one_group_of_rows(tmp_path):
    """The fake data set has 300 training images: "many" are all of them, and so are "few", 1,000 at most."""
    rows = benchmark(tmp_path, "scaling")
    assert [*rows] == ["time an image, 300 images / 300"]


@pytest.mark.slow
def test_the_benchmark_compares_the_arms(tmp_path):
    """The state of training is four numbers a parameter: weights, gradients and two moments, in float32."""
    layout = Layout("resnet", 1, 28, 128, (16, 32, 64), neck=16, hidden=(128,))
    with torch.device("meta"):
        counts = [parameter_breakdown(model(layout, Bernoulli()))["total"] for model in (BVAE, VAE)]
    rows = benchmark(tmp_path, "arms")
    state = rows["weights, gradients and moments of the BVAE / VAE"]
    assert set(rows) == {"step of the BVAE / of the VAE", "weights, gradients and moments of the BVAE / VAE"}
    assert state["ours"] + state["theirs"] == pytest.approx([16 * count / 2**20 for count in counts])
    assert state["ratio"][0] == pytest.approx(counts[0] / counts[1])


@pytest.mark.slow
def test_the_benchmark_measures_training_evaluation_and_memory(tmp_path):
    rows = benchmark(tmp_path, "training", "evaluation", "memory")
    assert {"training / bare step", "training / plain loop", "evaluation of one run, NLL sweep aside"} <= set(rows)
    memory = rows["training on CelebA's size, beyond its data"]
    assert f"data set of {337 * 3 * 64 * 64 / 2**20:.0f} MiB" in memory["note"]  # 300 + 37 random images


def test_rows_of_another_machine_are_not_mixed_with_new_ones(tmp_path):
    """Measuring some groups anew keeps the others, unless they were measured otherwise."""
    old = json.loads((PUBLISHED / "performance.json").read_text()) | {"machine": "another"}
    (tmp_path / "performance.json").write_text(json.dumps(old))
    data = tmp_path / "mnist.safetensors"
    data.touch()  # the refusal comes before it is read
    command = [sys.executable, SCRIPT, "--data", data, "--output", tmp_path, "--groups", "plan"]
    done = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "its machine was another, now it is" in done.stderr and "Traceback" not in done.stderr
    assert json.loads((tmp_path / "performance.json").read_text()) == old


def test_the_published_benchmark_is_complete():
    """Every row, at least five repetitions of what is timed, and the verdicts that its numbers give."""
    found = json.loads((PUBLISHED / "performance.json").read_text())
    assert found["repetitions"] >= 5 and found["versions"]["pythae"] == "0.1.2"
    rows = [row for group in found["rows"].values() for row in group]
    names = [row["name"] for row in rows]
    for goal in GOALS:
        assert any(name.startswith(goal) for name in names), goal
    page = (PUBLISHED / "performance.md").read_text()
    for row in rows:
        assert row["name"] in page
        counted = row["unit"] == "MiB"
        assert len(row["ours"]) == (1 if counted else found["repetitions"])
        assert len(row["theirs"]) in (0, len(row["ours"]))


TOOLS = {
    "performance": ("--data", "--output"),
    "gpu_check": ("--output",),
    "torture": ("--config",),
}


@pytest.mark.parametrize(("tool", "option"), [(tool, option) for tool in TOOLS for option in TOOLS[tool]])
def test_a_path_that_a_tool_cannot_use_is_told_at_once(tmp_path, tool, option):
    (tmp_path / "file").write_text("no data set, no study\n")
    data = tmp_path / "digits.safetensors"
    data.write_text("")
    arguments = {"performance": ["--data", str(data)], "gpu_check": ["--toy", "--device", "cpu"], "torture": []}[tool]
    bad = ["file/below", "file"] if option == "--output" else ["file/below", "none", "."]
    for path in bad:
        command = [f"tools/{tool}.py", *arguments, option, str(tmp_path / path)]
        done = run_in(ROOT, *command, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}")
        assert done.returncode in (1, 2) and "error: " in done.stdout and "Traceback" not in done.stdout, done.stdout
