"""Every section of `make gpu-check` runs at toy size, where no GPU is needed."""

import json
import sys

import pytest
import torch

from helpers.checkouts import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import gpu_check

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FAST = ("same_bytes", "repeated", "skipped", "rates", "others", "quick")


@pytest.mark.parametrize("name", [section.__name__ for section in gpu_check.SECTIONS if section.__name__ in FAST])
def test_a_section_at_toy_size(tmp_path, monkeypatch, name):
    monkeypatch.setattr(gpu_check.measure, "BATCH_SIZE", 4)
    rows = list(gpu_check.PARTS[name](gpu_check.Setting(DEVICE, True, tmp_path)))
    assert json.loads(json.dumps(rows)) == rows
    of_bytes = {section.__name__ for section in gpu_check.CORRECTNESS}
    assert rows and all((row["holds"] if name in of_bytes else row.get("holds", True)) is True for row in rows)
    numbers = [value for row in rows for value in row.values() if isinstance(value, float)]
    assert min(numbers, default=1) > 0
    if name == "same_bytes":
        others = {"learned sigma", "resnet, float32, clipped"}
        assert {row["what"] for row in rows} == {*gpu_check.NETWORKS, *gpu_check.OBJECTIVES, *others}
    if name == "rates":
        assert [row["what"] for row in rows] == list(gpu_check.SHAPES)
        assert rows[0]["captured_over_uncaptured"] == rows[0]["captured"] / rows[0]["uncaptured"]


@pytest.mark.slow
def test_the_whole_check_at_toy_size(tmp_path, capfd):
    """Each section as a process of its own, and what is written of them."""
    assert gpu_check.check(gpu_check.Setting(DEVICE, True, tmp_path), tmp_path / "out")
    found = json.loads((tmp_path / "out/gpu.json").read_text())
    assert {name: one["state"] for name, one in found["sections"].items()} == {
        section.__name__: "done" for section in gpu_check.SECTIONS
    }
    [killed] = found["sections"]["killed"]["rows"]
    assert killed == {"what": "killed and resumed", "interrupted": True, "resumed": True, "holds": True}
    assert "## killed: done" in (tmp_path / "out/gpu.md").read_text()
    assert '"what": "4 jobs"' in capfd.readouterr().out


@pytest.mark.parametrize("of_correctness", [False, True])
def test_a_section_that_takes_too_long_is_stopped_and_the_others_run(tmp_path, monkeypatch, of_correctness):
    """Half of the rates are rates. Half of the checks of bytes are no success: what hangs may be what does not hold."""

    def endless(at):
        """Never ends."""

    script = tmp_path / "script.py"
    row = json.dumps({"what": "begun"})
    script.write_text(f"import time; print({row!r}, flush=True); time.sleep(600)")
    monkeypatch.setattr(gpu_check, "__file__", str(script))
    monkeypatch.setattr(gpu_check, "SECTIONS", {endless: 1})
    monkeypatch.setattr(gpu_check, "CORRECTNESS", {endless: 1} if of_correctness else {})
    monkeypatch.setitem(gpu_check.PARTS, "endless", endless)
    at = gpu_check.Setting(torch.device("cpu"), False, tmp_path)
    assert gpu_check.check(at, tmp_path) != of_correctness
    section = json.loads((tmp_path / "gpu.json").read_text())["sections"]["endless"]
    assert (section["state"], section["rows"]) == ("stopped after 1 s", [{"what": "begun"}])


def test_a_section_that_says_nothing_is_no_success(tmp_path, monkeypatch):
    def silent(at):
        """Says nothing."""

    script = tmp_path / "script.py"
    script.write_text("")
    monkeypatch.setattr(gpu_check, "__file__", str(script))
    monkeypatch.setattr(gpu_check, "SECTIONS", {silent: 9})
    monkeypatch.setitem(gpu_check.PARTS, "silent", silent)
    assert not gpu_check.check(gpu_check.Setting(torch.device("cpu"), True, tmp_path), tmp_path)


def test_the_limits_are_eight_minutes():
    """On a GPU the sections of correctness run at once."""
    assert max(gpu_check.CORRECTNESS.values()) + sum(gpu_check.SPEED.values()) <= 480


def test_some_sections_again_leave_the_others_as_they_are(tmp_path, monkeypatch):
    at = gpu_check.Setting(DEVICE, True, tmp_path)
    found = gpu_check.about(at) | {"sections": {"rates": {"state": "done", "seconds": 1.5, "rows": [{"what": "kept"}]}}}
    (tmp_path / "gpu.json").write_text(json.dumps(found))
    monkeypatch.setattr(gpu_check, "run_section", lambda name, at, limit: {"state": name, "seconds": 0, "rows": [{}]})
    assert gpu_check.check(at, tmp_path, only=["quick"])
    sections = json.loads((tmp_path / "gpu.json").read_text())["sections"]
    assert sections == found["sections"] | {"quick": {"state": "quick", "seconds": 0, "rows": [{}]}}
    real = gpu_check.replace(at, toy=False)  # nothing that a toy wrote is kept
    assert gpu_check.check(real, tmp_path, only=["quick"])
    assert json.loads((tmp_path / "gpu.json").read_text())["sections"].keys() == {"quick"}
