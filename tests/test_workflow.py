"""The whole quick study through Snakemake, once, and what a user sees of it."""

import hashlib
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy import stats

from bvae.__main__ import main
from bvae.errors import InputError
from bvae.evaluation.per_image import read_per_image
from bvae.evaluation.references import FORMAT
from bvae.report.figures import FIGURES as KINDS
from bvae.report.publication import verify
from bvae.report.tables import write_tables
from bvae.study.runs import per_image_path
from bvae.system.files import read_facts, read_yaml
from helpers import browser
from helpers.checkouts import QUICK, ROOT, environment, run_in, snakemake
from helpers.own_data import bring_birds
from helpers.studies import FOUR, edited_quick, planned_jobs, quick_metrics, quick_run

FIGURES = Path("results/studies/quick/figures")
TABLES = Path("results/studies/quick/tables")


def quick_runs(checkout: Path) -> pd.DataFrame:
    paths = sorted((checkout / "results/runs").glob("mlp-quick-*/digits/*/metrics-*.json"))
    return pd.DataFrame([json.loads(path.read_text()) for path in paths])


def test_quick_makes_every_file(quick):
    runs = [(arm, seed) for arm in FOUR for seed in (0, 1, 2)]
    expected = [f"{quick_run(*run)}/{name}" for run in runs for name in ("model.safetensors", "history.csv")]
    expected += [path for run in runs for path in (quick_metrics(*run), per_image_path(quick_metrics(*run)))]
    tables = ("table1", "table2", "table3", "runs", "distances")
    expected += [f"{TABLES}/{name}.{suffix}" for name in tables for suffix in ("csv", "tex", "html", "json")]
    [networks] = (quick / "results/networks").iterdir()  # one folder: each network is drawn once
    for kind, figure in KINDS.items():
        folder = f"results/networks/{networks.name}" if figure.network else FIGURES / "mlp-quick"
        path = f"{folder}/digits-z8/{kind}"
        expected += [f"{path}.{suffix}" for suffix in figure.suffixes]
    expected += [f"results/studies/quick/claims.{suffix}" for suffix in ("csv", "tex", "html", "json", "md")]
    expected += [f"results/studies/quick/comparisons.{suffix}" for suffix in ("csv", "tex", "html", "json")]
    assert [name for name in expected if not (quick / name).is_file() or not (quick / name).stat().st_size] == []
    assert not list(quick.rglob("resume.pt"))


def test_second_quick_runs_nothing(quick_copy):
    again = snakemake(quick_copy, *QUICK)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout


def test_table_is_mean_and_spread_of_the_runs(quick):
    runs, table = quick_runs(quick), pd.read_csv(quick / TABLES / "table1.csv").set_index("arm")
    assert len(runs) == 12
    for arm in FOUR:
        mine = runs[runs["arm"] == arm]
        assert table.loc[arm, "n"] == 3
        for metric in ("elbo", "reconstruction", "probe_accuracy", "fd_classifier_samples", "psnr"):
            assert table.loc[arm, metric] == pytest.approx(np.mean(mine[metric]), rel=1e-12)
            assert table.loc[arm, f"{metric}_sd"] == pytest.approx(np.std(mine[metric], ddof=1), rel=1e-9)
    shown = (quick / TABLES / "table1.tex").read_text()
    elbo = f"{table.loc['bvae', 'elbo']:.2f} $\\pm$ {table.loc['bvae', 'elbo_sd']:.2f}"
    assert elbo in shown
    assert elbo.replace("$\\pm$", "±") in (quick / TABLES / "table1.html").read_text()


def test_generation_and_interpolation_stand_above_their_floor(quick):
    runs, table = quick_runs(quick), pd.read_csv(quick / TABLES / "table2.csv").set_index("arm")
    assert set(table["features"]) == {"classifier", "classifier2", "classifier3"}
    table = table[table["features"] == "classifier"]
    floor = read_facts(quick / "results/references/digits-classifier.safetensors", form=FORMAT)["floor"]
    for what in ("samples", "mixture_samples", "interpolations", "slerp_interpolations", "reconstructions"):
        assert table.loc["real_images", f"fd_{what}"] == floor["fd"]
        for arm in FOUR:
            mine = runs.loc[runs["arm"] == arm, f"fd_classifier_{what}"]
            assert table.loc[arm, f"fd_{what}"] == pytest.approx(np.mean(mine), rel=1e-12)
            assert mine.min() > floor["fd"]
    for name in ("precision", "recall"):
        mine = runs.loc[runs["arm"] == "vae", f"{name}_classifier_samples"]
        assert table.loc["vae", f"{name}_samples"] == pytest.approx(np.mean(mine), rel=1e-12)
        assert table.loc["real_images", f"{name}_samples"] == floor[name]
    shown = (quick / TABLES / "table2.html").read_text()
    assert "kid_classifier_samples: empty because 360 test images; its subsets need 1,000" in shown


def test_table_of_costs_says_what_is_halved_and_what_is_not(quick):
    runs = quick_runs(quick).groupby("arm")["parameters"].first()
    table = pd.read_csv(quick / TABLES / "table3.csv").set_index("arm")
    assert list(table.index) == FOUR
    assert (table["parameters_total"] == runs[table.index]).all()
    assert table.loc["bvae", "cut"] == pytest.approx(1 - runs["bvae"] / runs["vae"], rel=1e-12)
    assert table.loc["bvae", "training_state_mb"] < 0.52 * table.loc["vae", "training_state_mb"]
    for macs in ("macs_encode", "macs_decode"):
        assert table.loc["bvae", macs] == table.loc["vae", macs]
    assert "does not halve: multiply-accumulates" in (quick / TABLES / "table3.html").read_text()


def test_table_of_runs_has_a_line_a_run(quick):
    runs, table = quick_runs(quick), pd.read_csv(quick / TABLES / "runs.csv")
    for name in ("elbo", "nll_k1000", "probe_accuracy"):
        assert sorted(table[name]) == pytest.approx(sorted(runs[name]), rel=1e-12)
    assert (quick / TABLES / "runs.tex").read_text().count("finished") == 12


def test_quick_learns(quick):
    runs, table = quick_runs(quick), pd.read_csv(quick / TABLES / "table1.csv").set_index("arm")
    assert (runs["probe_accuracy"] > table.loc["untrained", "probe_accuracy"] + 0.05).all()
    assert (runs["elbo"] > table.loc["mean_image", "elbo"] + 1).all()
    np.testing.assert_allclose(runs["elbo"], -runs["reconstruction"] - runs["kl"], rtol=1e-6)


def test_quick_parameter_counts(quick):
    runs = quick_runs(quick).groupby("arm")["parameters"].first()
    shared = 64 * 128 + 128 * 64 + 64 * 8
    assert runs["vae"] - runs["bvae"] == shared
    assert runs["bvae_gain"] - runs["bvae"] == 8
    assert abs(runs["vae_narrow"] / runs["bvae"] - 1) < 0.01


def test_quick_gives_the_reference_numbers(quick):
    """Within the tolerances of docs/running.md, on any machine; tests/quick_reference.csv is of a CPU with AVX-512."""
    place = ["arm", "seed"]
    wanted = pd.read_csv(ROOT / "tests/quick_reference.csv").set_index(place)
    found = quick_runs(quick).set_index(place).loc[wanted.index]
    assert len(found) == 12
    assert (found["parameters"] == wanted["parameters"]).all()
    share = ("precision_", "recall_")  # of images in balls: a few may be on the edge of one
    loose = ("fd_", "effective_")
    for name in wanted.columns.drop("parameters"):
        near = {"rtol": 0.05 if name.startswith(loose) else 1e-3}
        if "accuracy" in name or name.startswith(share):
            near = {"atol": 0.01 if "accuracy" in name else 0.05}
        np.testing.assert_allclose(found[name], wanted[name], **({"rtol": 0} | near), err_msg=name)


def test_verdicts_of_the_quick_study(quick):
    """Three seeds decide nothing. What they give is described, with errors over seeds and over images."""
    runs, folder = quick_runs(quick), quick / "results/studies/quick"
    claims = pd.read_csv(folder / "claims.csv")
    assert claims["role"].tolist() == ["primary", *["registered"] * 6]
    assert set(claims["verdict"]) == {"not judged"}
    described = pd.read_csv(folder / "comparisons.csv").set_index(["arms", "metric"])
    line = described.loc[("bvae against vae", "elbo")]
    elbo = runs.pivot(index="seed", columns="arm", values="elbo")
    assert line["difference"] == pytest.approx(elbo["vae"].mean() - elbo["bvae"].mean(), rel=1e-9)
    theirs = stats.ttest_ind(elbo["vae"], elbo["bvae"], equal_var=False).confidence_interval(0.95)
    assert [line["interval_95_low"], line["interval_95_high"]] == pytest.approx([theirs.low, theirs.high])
    values = {  # of each image, mean over the seeds
        arm: np.mean(
            [read_per_image(quick / per_image_path(quick_metrics(arm, s))).values["elbo"] for s in range(3)], 0
        )
        for arm in ("bvae", "vae")
    }
    differences = values["vae"] - values["bvae"]
    assert line["error_images"] == pytest.approx(differences.std(ddof=1) / math.sqrt(360), rel=1e-5)
    assert differences.mean() == pytest.approx(line["difference"], rel=1e-4)


def test_metrics_that_mean_nothing_on_digits_say_why(quick):
    row = json.loads((quick / quick_metrics("bvae", 0)).read_text())
    assert row["ssim"] is None
    assert "8 pixels" in row["empty"]["ssim"]
    assert "360 test images" in row["empty"]["kid_classifier_samples"]
    assert row["nll_k1000"] < row["nll_k1"]


def test_provenance(quick):
    facts = json.loads((quick / TABLES / "table1.json").read_text())["provenance"]
    assert facts["runs"] == 12
    assert facts["seeds"] == [0, 1, 2]
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    pinned = read_yaml(ROOT / "workflow/datasets.yaml")["digits"]["sha256"]
    assert facts["data_sha256"] == {"digits": pinned}
    assert facts["protocol"]["frechet_images"] == 10_000


@pytest.mark.skipif(browser.CHROMEDRIVER is None, reason="no Chromium: apt install chromium chromium-driver")
def test_every_result_of_the_report_is_shown_in_a_browser(quick_copy):
    """Claims first; every table as a page, every figure as a whole picture; nothing comes from a network."""
    page = quick_copy / "results/studies/quick/report.html"
    done = snakemake(quick_copy, *QUICK, "--report", str(page))
    assert done.returncode == 0, done.stdout[-3000:]
    shown = {}
    with browser.opened(page) as driver:
        tasks = ["2 Reconstruction", "3 Classification", "4 Interpolation", "5 Generation"]
        categories = browser.entries(driver)
        assert categories == ["1 Claims", *tasks, "6 Networks and training", "7 Tables"]
        for category in categories:
            assert browser.entries(driver) == categories
            for index, cells in enumerate(browser.open_category(driver, category)):
                if not {"csv", "tex"} & {*cells}:  # those are for download
                    shown[cells[0]] = browser.show(driver, index, cells[0])
            driver.refresh()
        assert browser.complaints(driver) == []
    tables = ("claims", "comparisons", "table1", "table2", "table3", "runs", "distances")
    assert shown == dict.fromkeys(KINDS, "picture") | dict.fromkeys(tables, "page")


def test_no_report_is_made_of_outdated_results(quick_copy):
    """Snakemake would show the old tables below a new title, and make nothing."""
    edited = edited_quick(quick_copy, lambda config: config.update(title="Another"))
    done = snakemake(quick_copy, "--configfile", edited, "--report", "report.html")
    assert done.returncode == 1 and not (quick_copy / "report.html").exists()
    assert "made_from/table.json was made from settings" in done.stdout
    assert "without --report first" in done.stdout
    assert "made again" not in done.stdout


def test_publish_copies_with_a_manifest_that_holds(quick_copy):
    done = snakemake(quick_copy, *QUICK, "--", "publish")
    assert done.returncode == 0, done.stdout[-3000:]
    folder = quick_copy / "results/published/quick-1"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} == {
        *manifest["files"],
        "manifest.json",
    }
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert len(manifest["runs"]) == 12
    assert (manifest["study"], manifest["version"]) == ("quick", 1)
    for run, files in manifest["runs"].items():
        arm, _, seed = run.removeprefix("mlp-quick/digits/").replace("-seed", "-").split("-")
        paths = {"metrics.json": quick_metrics(arm, int(seed))}
        paths["model.safetensors"] = f"{quick_run(arm, int(seed))}/model.safetensors"
        assert files.keys() == paths.keys()
        for name, digest in files.items():
            assert hashlib.sha256((quick_copy / paths[name]).read_bytes()).hexdigest() == digest


def test_a_study_that_is_not_whole_is_not_published(quick_copy, monkeypatch, capsys):
    monkeypatch.chdir(quick_copy)
    other, model = (Path(quick_run("bvae", seed), "model.safetensors") for seed in (0, 1))
    kept = model.read_bytes()
    model.write_bytes(other.read_bytes())
    assert main(["publish", "config/quick.yaml"]) == 1
    assert f"{model} was made from seed 0" in capsys.readouterr().err
    model.write_bytes(kept)
    Path(TABLES, "table2.json").unlink()
    assert main(["publish", "config/quick.yaml"]) == 1
    assert f"there is no {TABLES}/table2.json" in capsys.readouterr().err
    assert not Path("results/published").exists()


def test_runs_are_verified_against_the_published_ones(quick_copy, monkeypatch):
    """In another folder they are the published ones to the bit; a changed number is named."""
    done = snakemake(quick_copy, *QUICK, "--", "publish")
    assert done.returncode == 0, done.stdout[-3000:]
    monkeypatch.chdir(quick_copy)
    published = Path("results/published/quick-1")
    found = verify(published)
    assert found == ([*found[0][:-1], "12 of 12 runs here are as published; 12 were published"], True)
    run, metrics = "mlp-quick/digits/vae_narrow-z8-seed1", Path(quick_metrics("vae_narrow", 1))
    assert f"{run}: as published, bit for bit" in found[0]
    manifest = json.loads((published / "manifest.json").read_text())
    older = manifest | {"runs": {f"results/runs/{name}": files for name, files in manifest["runs"].items()}}
    (published / "manifest.json").write_text(json.dumps(older))  # as those of before runs had a key
    assert verify(published) == found
    row = json.loads(metrics.read_text())
    metrics.write_text(json.dumps(row | {"elbo": row["elbo"] * 1.25, "kl": row["kl"] * 1.125}))
    other = run_in(quick_copy, "-m", "bvae", "verify", str(published))
    assert other.returncode == 1
    assert f"{run}: metrics.json differ, most in elbo, by 25 %" in other.stdout
    assert "11 of 12 runs here are as published" in other.stdout and "Traceback" not in other.stdout
    shutil.rmtree("results/runs")
    with pytest.raises(InputError, match="none of its 12 runs is here"):
        verify(published)


def test_table_refuses_runs_of_other_settings(quick, tmp_path, monkeypatch):
    """Results copied without Snakemake's records: runs of other settings are not taken for those of this study."""
    monkeypatch.chdir(quick)
    study = json.loads((TABLES / "table1.json").read_text())["provenance"]["config"]
    study["recipes"]["mlp-quick"]["training"]["learning_rate"] = 0.5
    with pytest.raises(InputError, match=r"bvae-z8-seed0/metrics-\w+\.json is missing"):
        write_tables(study, tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


def test_damaged_data_file_is_named_and_nothing_is_written(quick, tmp_path, monkeypatch, capsys):
    data = tmp_path / "resources/data/digits.safetensors"
    data.parent.mkdir(parents=True)
    data.write_bytes((quick / "resources/data/digits.safetensors").read_bytes()[:5000])
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        assert main(["train", str(quick / "config/quick.yaml"), "bvae-z8-seed0"]) == 1
    said = capsys.readouterr().err
    assert "resources/data/digits.safetensors" in said
    assert "Traceback" not in said
    assert not (tmp_path / "results").exists()


def test_missing_data_names_the_files_to_place(plan, tmp_path):
    """An offline machine: the message says which files go where. The address refuses, so nothing leaves the machine."""
    config = {"study": "offline", "blocks": [], "recipes": {}}
    quick_config = yaml.safe_load((plan / "config/quick.yaml").read_text())
    config |= {"recipes": quick_config["recipes"]}
    config["blocks"] = [quick_config["blocks"][0] | {"datasets": ["cifar10_jpeg"]}]
    (plan / "config/offline.yaml").write_text(yaml.safe_dump(config))
    done = snakemake(plan, "--configfile", "config/offline.yaml", "--", "resources/data/cifar10_jpeg.safetensors")
    assert done.returncode == 1
    assert "resources/downloads/cifar10_jpeg.zip" in done.stdout
    assert "BVAE_MIRROR" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (plan / "resources/data").exists() or not list((plan / "resources/data").iterdir())


def test_bad_config_names_every_fault_before_any_job(plan):
    def spoil(config):
        config["seedz"] = 3
        config["blocks"][0]["datasets"] = ["digitz"]
        config["blocks"][0]["arms"] = ["bvea"]
        config["recipes"]["mlp-quick"]["network"]["architecture"] = "mpl"
        config["recipes"]["mlp-quick"]["training"]["learning_rate"] = "1e-3"

    done = snakemake(plan, "--configfile", edited_quick(plan, spoil))
    assert done.returncode == 1
    assert "5 faults" in done.stdout
    for fault in ("'seedz'", "Did you mean 'digits'?", "Did you mean 'bvae'?", "Did you mean 'mlp'?", "write 1.0e-3"):
        assert fault in done.stdout
    assert "Traceback" not in done.stdout
    assert not (plan / "results").exists()


def test_claims_that_name_nothing_known_are_refused_before_any_job(plan):
    """Those of protocol 1, which are checked with every study."""
    claims = (plan / "config/claims.yaml").read_text()
    (plan / "config/claims.yaml").write_text(claims.replace("metric: elbo", "metric: elbow", 1))
    done = snakemake(plan, *QUICK)
    assert done.returncode == 1
    assert "metric 'elbow' is not known. Did you mean 'elbo'?" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (plan / "results").exists()


def test_studies_that_share_a_recipes_name_keep_their_runs(quick_copy):
    """The finished study, another one with one epoch more, and both again: the second time each plans nothing."""

    def longer(config):
        config["recipes"]["mlp-quick"]["training"]["epochs"] += 1

    study = edited_quick(quick_copy, longer)
    other = Path(quick_metrics("vae", 0, yaml.safe_load((quick_copy / study).read_text())))
    target = ("--configfile", study, "--", str(other.with_name("model.safetensors")))
    done = snakemake(quick_copy, *target)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Nothing to be done" in snakemake(quick_copy, *QUICK).stdout
    assert "Nothing to be done" in snakemake(quick_copy, *target).stdout
    histories = [quick_copy / path.parent / "history.csv" for path in (Path(quick_metrics("vae", 0)), other)]
    assert [len(path.read_text().splitlines()) - 1 for path in histories] == [60, 61]


def test_equal_settings_are_trained_once_whatever_the_recipe_is_called(quick_copy):
    """The finished study with its recipe renamed: every run is there already, and its tables have the new name."""

    def renamed(config):
        config["recipes"]["perceptron"] = config["recipes"].pop("mlp-quick")
        config["blocks"][0]["recipes"] = ["perceptron"]
        config["study"] = "renamed"

    planned = planned_jobs(snakemake(quick_copy, "-n", "--configfile", edited_quick(quick_copy, renamed)).stdout)
    assert not planned.keys() & {"data", "reference", "train", "evaluate"}
    assert planned["table"] == 1


def test_bare_snakemake_plans_the_whole_paper(plan):
    done = snakemake(plan, "-n")
    assert done.returncode == 0, done.stdout[-3000:]
    jobs = planned_jobs(done.stdout)
    per_seed = len(FOUR)
    assert jobs["train"] == jobs["evaluate"] == per_seed * (10 + 10 + 6 + 3)
    assert jobs["data"] == 4
    assert jobs["weights"] == 1
    assert jobs["reference"] == jobs["distortions"] == 4 * 4


def test_usable_as_a_module(plan, tmp_path):
    (tmp_path / "user").mkdir()
    shutil.copy(plan / "config/quick.yaml", tmp_path / "user/study.yaml")
    (tmp_path / "user/Snakefile").write_text(
        'configfile: "study.yaml"\n\n\n'
        f'module bvae:\n    snakefile: "{plan}/workflow/Snakefile"\n    config: config\n\n\n'
        "use rule * from bvae as bvae_*\n\n\n"
        "rule first:\n    default_target: True\n    input:\n        rules.bvae_all.input,\n"
    )
    done = snakemake(tmp_path / "user", "-n", "--cores", "1")
    assert done.returncode == 0, done.stdout[-3000:]
    assert planned_jobs(done.stdout)["bvae_train"] == 12
    data = "resources/data/digits.safetensors"
    done = snakemake(tmp_path / "user", "--cores", "1", "--", data)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "user" / data).exists() and not (plan / data).exists()
    snakefile = (tmp_path / "user/Snakefile").read_text()
    moved = snakefile.replace("    config: config\n", '    config: config\n    prefix: "bench"\n')
    (tmp_path / "user/Snakefile").write_text(moved)
    done = snakemake(tmp_path / "user", "-n", "--cores", "1")
    assert done.returncode == 1 and "moves the results to bench/results/" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_study_that_tunes_on_test_images_is_refused_before_any_job(plan):
    """Published data sets, and those of one's own by what their rule says."""
    rule = 'rule {0}:\n    output:\n        "resources/data/{0}.safetensors",\n    shell:\n'
    rule += '        "python -m bvae fetch sklearn:digits --name {0} {1} --output {{output:q}}"\n'
    for name, options in (("tested", ""), ("held", "--validation 100")):
        (plan / f"workflow/rules/datasets/{name}.smk").write_text(rule.format(name, options))
    for datasets, refused in ((["held", "mnist_validation"], False), (["mnist_validation", "tested"], True)):
        config = yaml.safe_load((plan / "config/quick.yaml").read_text())
        del config["protocol"], config["claims"]  # of studies that are judged
        config["blocks"][0]["datasets"] = datasets
        (plan / "config/tuned.yaml").write_text(yaml.safe_dump(config | {"study": "tuned", "tuning": True}))
        done = snakemake(plan, "-n", "--configfile", "config/tuned.yaml")
        assert done.returncode == refused, done.stdout[-3000:]
        assert (f"'{datasets[-1]}' would be judged by test images" in done.stdout) == refused


def test_names_with_hyphens_are_told_apart(plan):
    """Recipe `t` on data set `my-digits`, recipe `t-my` on `digits`, and a data set that is called like a control."""
    rule = (
        'rule {0}:\n    output:\n        "resources/data/{1}.safetensors",\n    log:\n        "{1}.log",\n    shell:\n'
    )
    rule += '        "python -m bvae fetch sklearn:digits --name {1} --output {{output:q}} --log {{log:q}}"\n'
    for name in ("my-digits", "digits-pca8"):
        path = plan / f"workflow/rules/datasets/{name}.smk"
        path.write_text(rule.format(name.replace("-", "_"), name))
    config = yaml.safe_load((plan / "config/quick.yaml").read_text())
    recipe = config["recipes"]["mlp-quick"]
    pairs = (("t", "my-digits"), ("t-my", "digits"), ("t", "digits-pca8"))
    blocks = [{"recipes": [name], "datasets": [data], "latent_dims": [8], "seeds": [0]} for name, data in pairs]
    (plan / "config/hyphens.yaml").write_text(
        yaml.safe_dump({"study": "hyphens", "blocks": blocks, "recipes": {"t": recipe, "t-my": recipe}})
    )
    done = snakemake(plan, "-n", "--configfile", "config/hyphens.yaml")
    assert done.returncode == 0, done.stdout[-3000:]
    jobs = planned_jobs(done.stdout)
    assert {jobs[rule] for rule in ("controls", "pca", "reference", "figures", "untrained")} == {3}
    for name, data in pairs:
        assert f"figures/{name}/{data}-z8/samples.svg" in done.stdout
    assert "results/controls/digits-pca8/controls.json" in done.stdout


def test_a_data_set_of_ones_own_by_the_steps_of_the_readme(plan):
    """In a study of one short run, to its metrics; `make docs-check` makes the tables."""
    command, look = bring_birds(plan, n_train=60, n_test=40)
    config = yaml.safe_load((plan / "config/birds.yaml").read_text())
    assert (config["study"], config["blocks"][0]["datasets"]) == ("birds", ["digits", "birds"])
    config["blocks"][0] |= {"datasets": ["birds"], "arms": ["bvae"], "seeds": [0]}
    del config["protocol"], config["claims"]  # one classifier is trained sooner than three
    config["recipes"]["mlp-quick"]["training"]["epochs"] = 2
    config["recipes"]["mlp-quick"]["importance"] = {"samples": [1]}
    (plan / "config/birds.yaml").write_text(yaml.safe_dump(config))

    assert command.split()[0] == "snakemake"
    metrics = Path(quick_metrics("bvae", 0, config | {"study": "quick"}, ["birds"]))
    done = snakemake(plan, *command.split()[1:], "--", str(metrics))
    assert done.returncode == 0, done.stdout[-6000:]
    birds = json.loads((plan / metrics).read_text())
    assert (birds["dataset"], birds["train_images"], birds["test_images"]) == ("birds", 60, 40)
    assert np.isfinite([birds[name] for name in ("elbo", "reconstruction", "psnr", "probe_accuracy")]).all()

    described = run_in(plan, *look.split()[1:])
    assert "birds: 60 training and 40 test images" in described.stdout
    assert "1 x 32 x 32" in described.stdout
    assert (plan / "birds.png").stat().st_size


def test_a_study_that_tunes_plans_training_and_its_elbo_alone(plan):
    done = snakemake(plan, "-n", "--configfile", "config/tuning_mlp.yaml", "--", "publish")
    assert done.returncode == 0, done.stdout[-3000:]
    jobs = planned_jobs(done.stdout)
    config = yaml.safe_load((plan / "config/tuning_mlp.yaml").read_text())
    runs = 4 * sum(len(b["recipes"]) * len(b["latent_dims"]) * len(b["seeds"]) for b in config["blocks"])
    assert jobs.pop("total") == 2 * runs + 3
    assert jobs == {"data": 1, "train": runs, "validate": runs, "tuning": 1, "publish": 1}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "study: mine\nversion: 2\nversion: 3\n",
            "mine.yaml has 1 fault:\n  - line 3: the key 'version' is also in line 2",
        ),
        pytest.param(
            "study: mine\nversion: 012\n",
            "mine.yaml has 1 fault:\n  - line 2: YAML takes '012' for 10.",
            marks=pytest.mark.slow,
        ),
        ("title: mine\n", "mine.yaml: 'study' is missing: found title."),
    ],
)
@pytest.mark.parametrize("module", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["alone", "module"])
def test_snakemake_refuses_a_config_file_that_is_not_what_it_seems(plan, tmp_path, content, said, module):
    """Snakemake's own reader drops the first of two keys, and adds the paper's study to a file without one."""
    folder = plan
    if module:
        folder, said = tmp_path / "user", said.replace("mine.yaml: 'study'", "top level: 'study'").split(": found")[0]
        folder.mkdir()
        (folder / "Snakefile").write_text(
            f'configfile: "mine.yaml"\n\n\nmodule bvae:\n    snakefile: "{plan}/workflow/Snakefile"\n'
            "    config: config\n\n\nuse rule * from bvae as bvae_*\n"
        )
    (folder / "mine.yaml").write_text(content)
    done = snakemake(folder, "-n", "--cores", "1", *([] if module else ["--configfile", "mine.yaml"]))
    assert done.returncode == 1
    assert said in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.slow
def test_a_checkout_and_a_data_set_with_braces_in_their_names_are_refused(plan):
    """Snakemake takes them for wildcards: its own message would be of a name that is not known."""
    (plan / "workflow/rules/datasets/my{set}.smk").touch()
    done = snakemake(plan, "-n", *QUICK)
    assert done.returncode == 1
    assert "workflow/rules/datasets: 'my{set}' of my{set}.smk cannot name a data set" in done.stdout
    moved = plan.rename(plan.with_name("bvae{1}"))
    done = snakemake(moved, "-n", *QUICK)
    assert done.returncode == 1
    assert "bvae{1}: the path of the benchmark has { and }" in done.stdout


@pytest.mark.slow
def test_two_studies_are_not_mixed_and_a_file_beside_one_changes_it(plan):
    (plan / "more.yaml").write_text("title: another title\n")
    done = snakemake(plan, "-n", "--configfile", "config/quick.yaml", "config/mnist.yaml")
    assert done.returncode == 1 and "config/mnist.yaml: 2 studies" in done.stdout
    done = snakemake(plan, "-n", "--configfile", "config/quick.yaml", "more.yaml")
    assert done.returncode == 0 and planned_jobs(done.stdout)["train"] == 12


def test_the_error_of_a_job_is_shown_by_the_commands_of_the_makefile(plan):
    """Once, by the logger that they use; tests/test_output.py says more of it."""
    rule = 'rule:\n    output:\n        "resources/data/lost.safetensors",\n    log:\n        "logs/lost.log",\n'
    rule += '    shell:\n        "echo $((6 * 7)) pictures are torn > {log:q}; exit 1"\n'
    (plan / "workflow/rules/datasets/lost.smk").write_text(rule)
    logger = str(plan / "workflow/logger")
    done = snakemake(plan, "--logger", "bvae", *QUICK, "--", "resources/data/lost.safetensors", PYTHONPATH=logger)
    assert done.returncode == 1
    assert [done.stdout.count(once) for once in ("logs/lost.log", "| 42 pictures are torn\n")] == [1, 1]


AWAY = """
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    pass_envvar_declarations_to_cmd=True,
    auto_deploy_default_storage_provider=False,
)


class Executor(RemoteExecutor):
    def run_job(self, job):
        raise SystemExit("a job was submitted")

    async def check_active_jobs(self, active_jobs):
        yield

    def cancel_jobs(self, active_jobs):
        pass
"""


@pytest.mark.slow
def test_a_python_that_no_job_of_a_cluster_could_start_is_refused_before_the_first_job(plan, tmp_path):
    """Its path has a space, and an executor that is no local one writes it into a command without quotes."""
    (tmp_path / "snakemake_executor_plugin_away").mkdir()
    (tmp_path / "snakemake_executor_plugin_away/__init__.py").write_text(AWAY)
    (tmp_path / "my tools").mkdir()
    (tmp_path / "my tools/.venv").symlink_to(sys.prefix, target_is_directory=True)
    python = tmp_path / "my tools/.venv/bin/python"
    for executor, status, said in (
        ("away", 1, f"{python}: jobs of a cluster cannot start"),
        ("local", 0, "1 of 1 steps"),
    ):
        command = [python, "-m", "snakemake", *QUICK, "--executor", executor, "--jobs", "1", "--"]
        done = subprocess.run(
            [*command, "resources/data/digits.safetensors"],
            cwd=plan,
            env=environment(PYTHONPATH=str(tmp_path)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert (done.returncode, said in done.stdout) == (status, True), done.stdout[-3000:]
        assert "a job was submitted" not in done.stdout and "Traceback" not in done.stdout
