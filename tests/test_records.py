"""What git keeps of a run without its model counts as the run."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from bvae.__main__ import main
from bvae.errors import InputError
from bvae.evaluation.references import load_reference, save_reference
from bvae.report.made_from import Plan, results_of
from bvae.report.outdated import outdated, refuse_records
from bvae.report.status import read_status
from bvae.report.tables import collect_runs
from bvae.study.runs import SUMS, found_results, is_record, write_sums
from bvae.system.files import read_yaml, sha256_of_file
from helpers.checkouts import snakemake
from helpers.figures_and_tables import OF_IMAGES, OF_MODELS
from helpers.studies import check, planned_jobs, quick_metrics

QUICK = "config/quick.yaml"


@pytest.fixture
def recorded(quick_copy, monkeypatch) -> Path:
    """The quick study of which only records are left, with what does not depend on runs."""
    monkeypatch.chdir(quick_copy)
    assert main(["record", QUICK]) == 0
    shutil.rmtree("results/runs")
    return quick_copy


def record_of(arm: str, seed: int) -> Path:
    return Path(quick_metrics(arm, seed).replace("results/runs/", "results/records/"))


def test_records_give_the_tables_verdicts_and_publication_of_their_runs(recorded, quick):
    """But for figures of models, and errors over images, whose values a record does not hold."""
    done = snakemake(recorded, "-n", "-q", "rules", "--configfile", QUICK)
    jobs = {rule: n for rule, n in planned_jobs(done.stdout).items() if rule not in ("default", "total")}
    assert jobs == {"table": 1, "claims": 1, "figures": 1}
    assert {run.state for run in read_status(QUICK)[1]} == {"done"}
    figures = Path("results/studies/quick/figures")
    shutil.rmtree("results/studies")
    assert main(["table", QUICK]) == main(["claims", QUICK]) == 0
    kinds = {path.stem for path in (quick / figures).glob("*/*/*.svg")} - OF_MODELS
    assert main(["figure", QUICK, *sorted(kinds)]) == main(["publish", QUICK]) == 0
    for path in sorted((quick / "results/studies/quick").rglob("*.csv")):
        copy, before = (root / path.relative_to(quick) for root in (recorded, quick))
        if path.stem in OF_MODELS:
            assert not copy.exists()
        elif path.stem in ("claims", "comparisons"):
            tables = [pd.read_csv(found) for found in (copy, before)]
            assert not {*OF_IMAGES} & {*tables[0]} and {*OF_IMAGES} <= {*tables[1]}
            pd.testing.assert_frame_equal(tables[0], tables[1].drop(columns=OF_IMAGES), check_exact=True)
        else:
            assert copy.read_bytes() == before.read_bytes(), path
    assert {path.stem for path in figures.glob("*/*/*.svg")} == kinds
    published = json.loads(Path("results/published/quick-1/manifest.json").read_text())["runs"]
    results = quick_metrics("vae", 1)
    assert published["mlp-quick/digits/vae-z8-seed1"] == {
        "metrics.json": sha256_of_file(quick / results),
        "model.safetensors": sha256_of_file((quick / results).with_name("model.safetensors")),
    }
    assert len(published) == 12


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda row: row["settings"]["training"].update(epochs=1), "made from settings"),
        (lambda row: row.update(dataset_sha256="0" * 64), "made from dataset_sha256"),
        (lambda row: row["tasks"]["classification"].update(version=0), "made from task classification"),
    ],
)
def test_an_outdated_record_is_refused(recorded, change, reason):
    path = record_of("bvae", 0)
    row = json.loads(path.read_text())
    change(row)
    path.write_text(json.dumps(row))
    plan = Plan(check(read_yaml(QUICK)))
    found = outdated(plan, results_of(plan))
    assert [name for name in found if is_record(name)] == [path.as_posix()]
    with pytest.raises(InputError, match=rf"{path} was {reason}.*delete its folder"):
        refuse_records(found)


def test_sums_are_what_sha256sum_checks(recorded):
    folder = record_of("vae", 0).parent
    done = subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count(": OK") == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_text(path.read_text().replace('"elbo": -', '"elbo": -1')), "was changed after it"),
        (lambda path: path.write_text(path.read_text().replace("finished", "Finished")), "was changed after it"),
        (lambda path: path.write_text("[]"), "is damaged"),
        (
            lambda path: shutil.copy(record_of("vae", 2).with_name("history.csv"), path.parent),
            "was written with another .*history",
        ),
        (lambda path: cut(path.with_name("history.csv"), 50), "was written with another .*history"),
        (lambda path: path.with_name("history.csv").unlink(), "is not whole: there is no .*history"),
        (lambda path: path.with_name(SUMS).unlink(), f"is not whole: there is no .*{SUMS}"),
        (lambda path: path.with_name(SUMS).write_text("abc"), "is damaged"),
    ],
)
def test_a_record_that_was_changed_is_refused(recorded, change, said):
    path = record_of("bvae", 0)
    change(path)
    plan = Plan(check(read_yaml(QUICK)))
    with pytest.raises(InputError, match=rf"{path} {said}.*Get it again from git"):
        refuse_records(outdated(plan, results_of(plan)))
    assert main(["table", QUICK]) == 1


def cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def test_two_records_of_one_run_that_differ_are_refused(recorded):
    """Those of two machines, from merged branches; equal ones are one."""
    [folder] = Path("results/records").glob("mlp-quick-*")
    other = Path(shutil.copytree(folder, folder.with_name(f"another-{folder.name.rpartition('-')[2]}")))
    found_results(check(read_yaml(QUICK)))
    path = other / record_of("bvae", 0).relative_to(folder)
    path.write_text(path.read_text().replace('"elbo": -', '"elbo": -1'))
    with pytest.raises(InputError, match="two records of one run"):
        found_results(check(read_yaml(QUICK)))


DAMAGED = r"references/digits-classifier\.safetensors: not a file of a reference"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: cut(path, 1000), DAMAGED),
        (lambda path: path.write_bytes(b""), DAMAGED),
        (
            lambda path: shutil.copy(path.with_name("digits-classifier2.safetensors"), path),
            "was made from task distances",
        ),
    ],
)
def test_a_wrong_recorded_reference_is_refused_before_any_job_and_by_its_own(recorded, change, said):
    change(Path("results/records/references/digits-classifier.safetensors"))
    plan = Plan(check(read_yaml(QUICK)))
    with pytest.raises(InputError, match=said):
        refuse_records(outdated(plan, results_of(plan)))
    shutil.rmtree("results/references")
    assert main(["reference", "digits-classifier"]) == 1
    assert not Path("results/references/digits-classifier.safetensors").exists()


def test_a_reference_whose_network_was_changed_is_refused(recorded):
    path = Path("results/records/references/digits-classifier.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="changed after it was written"):
        load_reference(path)


def test_runs_are_not_recorded_without_their_references(quick_copy, monkeypatch, capsys):
    monkeypatch.chdir(quick_copy)
    shutil.rmtree("results/references")
    assert main(["record", QUICK]) == 1
    assert "digits-classifier.safetensors: no such file" in capsys.readouterr().err
    assert not Path("results/records").exists()


def test_runs_of_one_data_set_are_recorded_before_another_has_a_reference(quick_copy, monkeypatch):
    monkeypatch.chdir(quick_copy)
    study = read_yaml(QUICK)
    study["blocks"].append(study["blocks"][0] | {"datasets": ["mnist"]})
    Path("config/two.yaml").write_text(yaml.safe_dump(study))
    assert main(["record", "config/two.yaml"]) == 0
    assert len([*Path("results/records").glob("*/digits/*/metrics-*.json")]) == 12
    assert {path.name[:7] for path in Path("results/records/references").iterdir()} == {"digits-"}


def test_records_are_not_written_where_a_file_is(quick_copy, monkeypatch, capsys):
    monkeypatch.chdir(quick_copy)
    Path("results/records").write_text("")
    assert main(["record", QUICK]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_record_needs_no_data_until_the_data_is_there(recorded):
    shutil.rmtree("resources/data")
    plan = Plan(check(read_yaml(QUICK)))
    results = results_of(plan)
    assert sum(is_record(result.path) for result in results) == 12
    refuse_records(outdated(plan, results))


def test_runs_that_saw_other_reference_features_are_not_compared(recorded):
    shutil.rmtree("results/records/references")  # the first records had none
    path = record_of("vae", 2)
    row = json.loads(path.read_text())
    [task] = [by for by in row["tasks"].values() if "references" in by][:1]
    task["references"][0][1] = "0" * 64
    path.write_text(json.dumps(row))
    write_sums(path.parent, {path.name: sha256_of_file(path)})
    with pytest.raises(InputError, match=rf"{path}: saw other reference features"):
        collect_runs(check(read_yaml(QUICK)), "claims")


def test_a_record_of_other_reference_features_than_the_recorded_ones_is_refused_before_any_job(recorded):
    path = record_of("vae", 2)
    row = json.loads(path.read_text())
    row["tasks"]["distances"]["references"][0][1] = "0" * 64
    path.write_text(json.dumps(row))
    plan = Plan(check(read_yaml(QUICK)))
    with pytest.raises(InputError, match=rf"{path} was made from task distances"):
        refuse_records(outdated(plan, results_of(plan)))


def test_a_reference_over_another_network_than_the_recorded_runs_saw_is_made_again(recorded):
    path = Path("results/references/digits-classifier.safetensors")
    save_reference(replace(load_reference(path), images=99), path)
    plan = Plan(check(read_yaml(QUICK)))
    assert outdated(plan, results_of(plan))[path.as_posix()].startswith("was made from identity")


def test_recorded_networks_make_the_references_again_and_others_are_not_recorded(quick_copy, monkeypatch, capsys):
    """As on another machine, which would train another network: here, one trained for fewer steps."""
    monkeypatch.chdir(quick_copy)
    assert main(["record", QUICK]) == 0
    name = "references/digits-classifier.safetensors"
    made, record = Path("results", name), Path("results/records", name)
    before = load_reference(made)
    assert load_reference(record).features is None and load_reference(record).identity == before.identity
    assert record.stat().st_size < made.stat().st_size
    monkeypatch.setattr("bvae.evaluation.protocol.CLASSIFIER_STEPS", 3)
    made.unlink()
    assert main(["reference", "digits-classifier"]) == 0
    again = load_reference(made)
    assert again.identity == before.identity and all(map(torch.equal, again.features, before.features))
    assert main(["record", QUICK]) == 0
    save_reference(replace(before, features=None, images=99), record)
    capsys.readouterr()
    assert main(["record", QUICK]) == 1
    assert f"{made}: another network than that of {record}" in capsys.readouterr().err


def test_a_run_goes_before_its_record(quick_copy, monkeypatch):
    """And a record is not replaced by that of another run."""
    monkeypatch.chdir(quick_copy)
    assert main(["record", QUICK]) == main(["record", QUICK]) == 0
    plan = Plan(check(read_yaml(QUICK)))
    assert not plan.recorded and outdated(plan, results_of(plan)) == {}
    path = record_of("bvae", 0)
    path.write_text(path.read_text().replace("finished", "Finished"))
    assert main(["record", QUICK]) == 1
    shutil.rmtree(Path(quick_metrics("bvae", 0)).parent)
    assert [name for name in Plan(check(read_yaml(QUICK))).results.values() if is_record(name)] == [path.as_posix()]


def test_a_run_whose_results_were_deleted_is_evaluated_again(quick_copy, monkeypatch):
    """Its model is here, so its record does not count."""
    monkeypatch.chdir(quick_copy)
    assert main(["record", QUICK]) == 0
    Path(quick_metrics("bvae", 0)).unlink()
    assert not Plan(check(read_yaml(QUICK))).recorded


def test_a_history_that_is_not_the_runs_is_told_and_one_that_is_gone_is_copied_again(quick_copy, monkeypatch):
    monkeypatch.chdir(quick_copy)
    assert main(["record", QUICK]) == 0
    history = record_of("vae", 1).with_name("history.csv")
    content = history.read_bytes()
    history.unlink()
    assert main(["record", QUICK]) == 0
    assert history.read_bytes() == content
    history.write_bytes(content[:-10])
    assert main(["record", QUICK]) == 1


def test_a_record_is_found_under_another_name_of_its_settings(recorded):
    """Where merged branches have two folders of one key, each run is found in that which has it."""
    [folder] = Path("results/records").glob("mlp-quick-*")
    other = folder.with_name(f"another-{folder.name.rpartition('-')[2]}")
    moved = record_of("vae", 2).parent
    (other / "digits").mkdir(parents=True)
    moved.rename(other / "digits" / moved.name)
    assert all(is_record(path) for path in Plan(check(read_yaml(QUICK))).results.values())


def test_tables_say_how_many_runs_are_only_recorded(recorded):
    claims = Path("results/studies/quick/claims.json")
    before = json.loads(claims.read_text())["provenance"]
    assert main(["claims", QUICK]) == 0
    after = json.loads(claims.read_text())["provenance"]
    assert (before["only_recorded"], after["only_recorded"]) == (0, 12)
    assert before["id"] == after["id"]  # equal ids, equal numbers
