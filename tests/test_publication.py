"""What is published of a study makes its tables, verdicts and numeric figures again, without runs, models or images."""

import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats

from bvae import load_run
from bvae.__main__ import main
from bvae.errors import InputError
from bvae.evaluation.extractors import EXTRACTORS, Extractor
from bvae.report.figures import kinds_of
from bvae.report.made_from import Plan
from bvae.report.publication import _made, publish, shrink_picture, verify
from bvae.report.published_data import read_data
from bvae.study.claims import COMPARED
from bvae.system.files import read_yaml, sha256_of_file, write_json, write_text
from helpers.checkouts import ROOT
from helpers.figures_and_tables import OF_MODELS
from helpers.studies import FOUR, check, quick_metrics

QUICK, FOLDER = "config/quick.yaml", Path("results/published/quick-1")
LOWER_IS_BETTER = {
    "reconstruction", "mse_per_pixel", "fd_classifier_samples", "fd_classifier_interpolations",
    "fd_classifier_path_interpolations",
}  # fmt: skip
PUBLISHED = sorted(path.parent for path in (ROOT / "results/published").glob("*/manifest.json"))


def claims_of(folder: Path) -> pd.DataFrame:
    path = folder / "claims.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


@pytest.fixture
def published(quick_copy, monkeypatch) -> Path:
    """The quick study after it was published, as only git has it: without results, data sets and models."""
    monkeypatch.chdir(quick_copy)
    assert main(["publish", QUICK]) == 0
    for name in ("resources", "results/runs", "results/references", "results/controls", "results/studies"):
        shutil.rmtree(name)
    return quick_copy


def test_all_views_of_numbers_are_made_from_the_published_data_digit_for_digit(published, quick):
    assert main(["rebuild", str(FOLDER), "--output", "rebuilt"]) == 0
    studies = quick / "results/studies/quick"
    compared = set()
    for path in sorted(path for path in studies.rglob("*") if path.suffix in (".csv", ".md", ".svg")):
        name = path.relative_to(studies)
        if path.stem in OF_MODELS:
            assert not Path("rebuilt", name).exists()
            continue
        compared.add(path.stem)
        assert Path("rebuilt", name).read_bytes() == path.read_bytes(), name
    assert compared >= {"table1", "table2", "table3", "runs", "distances", "claims", "quality", "training_curves"}
    assert pd.read_csv("rebuilt/comparisons.csv")["error_images"].count() > 0  # of values that are not published
    # and what people read is the copy of what the workflow made
    for name in json.loads((FOLDER / "manifest.json").read_text())["files"]:
        if name.endswith((".csv", ".md")):
            assert (FOLDER / name).read_bytes() == (studies / name).read_bytes()


def test_a_changed_number_in_the_data_changes_the_tables(published):
    data = read_data(FOLDER)
    path = next(path for path in data["results"] if "/bvae-z8-seed0/" in path)
    data["results"][path]["elbo"] -= 3.0
    replace_data(gzip.compress(json.dumps(data).encode()))
    assert main(["rebuild", str(FOLDER), "--output", "rebuilt"]) == 0
    made, before = (pd.read_csv(folder / "tables/table1.csv").set_index("arm") for folder in (Path("rebuilt"), FOLDER))
    assert made.loc["bvae", "elbo"] == pytest.approx(before.loc["bvae", "elbo"] - 1.0)  # of three seeds
    assert made.loc["vae", "elbo"] == before.loc["vae", "elbo"]


def replace_data(content: bytes) -> None:
    """With its hash in the manifest."""
    (FOLDER / "data.json.gz").write_bytes(content)
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    manifest["files"]["data.json.gz"] = hashlib.sha256(content).hexdigest()
    (FOLDER / "manifest.json").write_text(json.dumps(manifest))


def test_publications_are_not_written_over(published, capsys):
    for output in (FOLDER, FOLDER.parent, FOLDER.parent / "new-1", Path("results"), Path()):
        assert main(["rebuild", str(FOLDER), "--output", str(output)]) == 1
        assert "publications are there" in capsys.readouterr().err
    write_text("used/table9.csv", "of another study")
    assert main(["rebuild", str(FOLDER), "--output", "used"]) == 1
    assert "found files in it" in capsys.readouterr().err
    Path("file").touch()
    assert main(["rebuild", str(FOLDER), "--output", "file"]) == 1
    assert "a file, expected a folder" in capsys.readouterr().err


def test_records_are_verified_as_runs_are(tmp_path, monkeypatch, capsys):
    """A record says the SHA-256 of its model. No run of this study is here."""
    published, model = ROOT / "results/published/tuning_scaling-1", "model_sha256"
    monkeypatch.chdir(tmp_path)
    for path, facts in read_data(published)["results"].items():
        write_json(Path(path.replace("results/runs/", "results/records/")), facts)
    lines, same = verify(published)
    runs = json.loads((published / "manifest.json").read_text())["runs"]
    assert same and len(lines) == len(runs) + 1
    paths = sorted(Path("results/records").glob("mlp1024-*/mnist_validation/*/validation.json"))
    for path, change in zip(paths, ({"elbo": 0.0}, {model: "0" * 64}), strict=False):
        facts = json.loads(path.read_text())
        assert facts.keys() >= change.keys()
        path.write_text(json.dumps(facts | change, indent=2, sort_keys=True) + "\n")
    found, same = verify(published)
    changed = [line for line in found[:-1] if line not in lines]
    assert not same and len(changed) == 2
    assert sorted("model.safetensors" in line for line in changed) == [False, True]
    assert main(["verify", str(published)]) == 1
    shutil.rmtree(paths[0].parent)
    assert len(verify(published)[0]) == len(runs)
    shutil.rmtree("results/records")
    with pytest.raises(InputError, match=f"none of its {len(runs)} runs"):
        verify(published)


def test_a_publication_that_is_made_again_loses_what_it_no_longer_has_and_only_at_its_end(quick_copy, monkeypatch):
    monkeypatch.chdir(quick_copy)
    assert main(["publish", QUICK]) == 0
    before = {path: path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}
    old = FOLDER / "tables/old/table9.csv"
    old.parent.mkdir()
    old.write_text("of an older version")
    with monkeypatch.context() as patch:
        patch.setattr("bvae.report.publication.write_data", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            publish(check(read_yaml(QUICK)), FOLDER)
    assert old.exists() and {path: path.read_bytes() for path in before} == before
    assert main(["publish", QUICK]) == 0
    assert {path: path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()} == before
    assert not old.parent.exists()


def test_pictures_are_those_of_models_small_and_of_the_same_size(published, quick):
    pictures = sorted(FOLDER.rglob("*.png"))
    assert {path.stem for path in pictures} == OF_MODELS
    for path in pictures:
        before = quick / "results/studies/quick" / path.relative_to(FOLDER)
        assert Image.open(path).size == Image.open(before).size
        assert path.stat().st_size < min(before.stat().st_size, 200_000), path


def test_a_picture_that_is_still_too_large_has_fewer_colours(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (490, 490, 3), dtype=np.uint8)  # a byte a pixel with 256 colours
    Image.fromarray(noise).save(tmp_path / "noise.png")
    shrink_picture(tmp_path / "noise.png", tmp_path / "small.png")
    assert (tmp_path / "small.png").stat().st_size < 200_000
    with Image.open(tmp_path / "small.png") as small:
        assert small.size == (490, 490) and len(small.getcolors()) == 64


def test_damaged_and_missing_data_are_refused(published, capsys):
    path = FOLDER / "data.json.gz"
    data = read_data(FOLDER)
    changed = path.read_bytes()[:1000]
    path.write_bytes(changed)
    assert main(["rebuild", str(FOLDER), "--output", "rebuilt"]) == 1
    assert f"{path}: not the file that was published" in capsys.readouterr().err
    escapes = [data | {"results": data["results"] | {name: {}}} for name in ("../escaped.json", "/tmp/escaped.json")]
    for wrong in ([], {}, data | {"study": data["study"] | {"study": "../escaped"}}, *escapes):
        replace_data(gzip.compress(json.dumps(wrong).encode()))
        assert main(["rebuild", str(FOLDER), "--output", "rebuilt"]) == 1
        assert f"{path}: damaged" in capsys.readouterr().err
    replace_data(changed)
    assert main(["rebuild", str(FOLDER), "--output", "rebuilt"]) == 1
    assert f"{path}: damaged" in capsys.readouterr().err
    path.unlink()
    assert main(["rebuild", str(FOLDER), "--output", "rebuilt"]) == 1
    assert f"{path}: no such file. Expected" in capsys.readouterr().err
    assert not Path("rebuilt").exists()


def test_a_changed_file_of_a_publication_is_noticed(tmp_path, monkeypatch, capsys):
    folder = Path("results/published/tuning_scaling-1")
    shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    path, facts = next(iter(read_data(folder)["results"].items()))
    write_json(Path(path.replace("results/runs/", "results/records/")), facts)
    assert main(["verify", str(folder)]) == 0
    capsys.readouterr()
    for change in (lambda path: path.write_text(path.read_text() + "\n"), Path.unlink):
        change(folder / "tuning.csv")
        assert main(["verify", str(folder)]) == 1
        assert f"{folder}/tuning.csv: not the file that was published, or missing" in capsys.readouterr().out
        assert main(["site", "results/published", "--output", "site.html"]) == 1
        assert f"{folder}/tuning.csv: not the file that was published" in capsys.readouterr().err
        assert not Path("site.html").exists()


def test_a_run_is_verified_also_where_the_published_table_is_damaged(tmp_path, monkeypatch, capsys):
    folder = Path("results/published/fashion_mlp_z16_bound-1")
    shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    path, facts = next((path, facts) for path, facts in read_data(folder)["results"].items() if "seed" in path)
    write_json(Path(path), facts | {"elbo": 2 * facts["elbo"]})
    assert main(["verify", str(folder)]) == 1
    assert "metrics.json differ, most in elbo, " in capsys.readouterr().out
    for text in ((folder / "tables/runs.csv").read_text().splitlines()[0], "no table"):
        write_text(folder / "tables/runs.csv", text)
        assert main(["verify", str(folder)]) == 1
        assert f"{folder}/tables/runs.csv: not the file that was published" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{}", "[]", '{"study": "a", "files": {}, "runs": [], "provenance": {"config": {}}}'])
@pytest.mark.parametrize("step", [["verify"], ["crate"], ["rebuild", "--output", "rebuilt"]])
def test_an_incomplete_manifest_is_one_error(tmp_path, monkeypatch, capsys, text, step):
    monkeypatch.chdir(tmp_path)
    Path("published").mkdir()
    Path("published/manifest.json").write_text(text)
    Path("published/data.json.gz").touch()
    assert main([step[0], "published", *step[1:]]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "published/" in line and "from git" in line


def test_other_claims_are_another_version(quick_copy, monkeypatch, capsys):
    """Those of a cited version stay, also where the runs are the same."""
    monkeypatch.chdir(quick_copy)
    assert main(["publish", QUICK]) == 0
    before = (FOLDER / "claims.csv").read_bytes()
    study = read_yaml(QUICK)
    Path("other.yaml").write_text(json.dumps(study | {"claims": study["claims"][::-1]}))
    assert main(["table", "other.yaml"]) == main(["claims", "other.yaml"]) == 0
    assert main(["publish", "other.yaml"]) == 1
    assert "other claims are published as version 1" in capsys.readouterr().err
    assert (FOLDER / "claims.csv").read_bytes() == before
    assert main(["claims", QUICK]) == 0
    claims = pd.read_csv(FOLDER / "claims.csv")
    claims.assign(margin=2 * claims["margin"]).to_csv(FOLDER / "claims.csv", index=False)
    assert main(["publish", QUICK]) == 1
    assert "other claims are published as version 1" in capsys.readouterr().err


def test_a_manifest_has_the_study_and_the_code_of_its_publishing(quick_copy, monkeypatch):
    """Not those of the first table: it is current also where claims or words were changed or committed since."""
    monkeypatch.chdir(quick_copy)
    study = read_yaml(QUICK)
    Path("fewer.yaml").write_text(json.dumps(study | {"claims": study["claims"][1:3]}))
    assert main(["claims", "fewer.yaml"]) == 0
    monkeypatch.setattr("bvae.report.tables._git", lambda *asked: "c0" * 20 if asked[0] == "rev-parse" else "")
    write_text(FOLDER / "ro-crate-metadata.json", "{}")
    for _ in range(2):
        assert main(["publish", "fewer.yaml"]) == 0
        facts = json.loads((FOLDER / "manifest.json").read_text())["provenance"]
        assert facts["config"]["claims"] == study["claims"][1:3]
        assert (facts["commit"], facts["uncommitted_changes"]) == ("c0" * 20, False)
        assert not (FOLDER / "ro-crate-metadata.json").exists()  # it said what was published before


def test_publishing_from_records_removes_nothing_that_runs_have_made(quick_copy, monkeypatch, capsys):
    monkeypatch.chdir(quick_copy)
    assert main(["publish", QUICK]) == main(["record", QUICK]) == 0
    before = {path: path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}
    shutil.rmtree("results/runs")
    kinds = [kind for names in kinds_of(check(read_yaml(QUICK)), recorded=True).values() for kind in names]
    assert main(["table", QUICK]) == main(["claims", QUICK]) == main(["figure", QUICK, *kinds]) == 0
    assert main(["publish", QUICK]) == 1
    assert "cannot be made again from records" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()} == before


def test_a_report_is_current_until_something_in_it_is_made_again(quick_copy, monkeypatch, capsys):
    monkeypatch.chdir(quick_copy)
    folder = Path("results/studies/quick")

    def is_named() -> bool:
        assert main(["summary", QUICK]) == 0
        return f"report    {folder}/report.html" in capsys.readouterr().out

    assert not is_named()
    write_text(folder / "report.html", "all")
    assert is_named()
    study = read_yaml(QUICK)
    Path("config/quick.yaml").write_text(json.dumps(study | {"claims": study["claims"][1:3]}))
    assert not is_named()
    assert main(["claims", QUICK]) == 0
    assert not is_named()


def test_the_models_that_a_study_names_are_published_with_it(quick_copy, quick, monkeypatch, capsys):
    monkeypatch.chdir(quick_copy)
    study = read_yaml(QUICK) | {"published_models": {"recipe": "mlp-quick", "seed": 1}}
    Path("named.yaml").write_text(json.dumps(study))
    assert main(["table", "named.yaml"]) == main(["claims", "named.yaml"]) == main(["publish", "named.yaml"]) == 0
    folder = FOLDER / "models/mlp-quick-digits-z8"
    files = json.loads((FOLDER / "manifest.json").read_text())["files"]
    assert {path.name for path in folder.iterdir()} == {"bvae", "bvae_gain", "vae", "vae_narrow"}
    for arm in ("bvae", "vae"):
        path, run = folder / arm / "model.safetensors", quick / Path(quick_metrics(arm, 1)).parent
        assert path.read_bytes() == (run / "model.safetensors").read_bytes()
        assert files[path.relative_to(FOLDER).as_posix()] == sha256_of_file(path)
        card = (folder / arm / "model_card.md").read_text()
        called = Path(quick_metrics(arm, 1)).parent.as_posix()
        assert card == (run / "model_card.md").read_text().replace(called, f"{folder / arm}")
        assert f'load_run("{folder / arm}")' in card
        digits = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        found, wanted = (load_run(place)[0].encode(digits)[0] for place in (folder / arm, run))
        assert torch.equal(found, wanted)
    cards = {path: path.read_text() for path in folder.rglob("model_card.md")}
    for card in Path("results/runs").rglob("model_card.md"):  # it may be of another study's evaluation
        card.write_text("-> Not evaluated yet.")
    assert main(["publish", "named.yaml"]) == 0
    assert {path: path.read_text() for path in folder.rglob("model_card.md")} == cards
    # a card names the source and the licence of the data: without these nothing is written
    capsys.readouterr()
    Path("resources/data/digits.safetensors").rename("digits.safetensors")
    (FOLDER / "manifest.json").unlink()
    (FOLDER / "claims.csv").unlink()
    assert main(["publish", "named.yaml"]) == 1
    assert "resources/data/digits.safetensors: no such file" in capsys.readouterr().err
    assert not (FOLDER / "claims.csv").exists()
    Path("digits.safetensors").rename("resources/data/digits.safetensors")
    # a record has no model
    assert main(["record", "named.yaml"]) == 0
    shutil.rmtree(Path(quick_metrics("vae", 1)).parent)
    capsys.readouterr()
    assert main(["publish", "named.yaml"]) == 1
    assert "vae-z8-seed1/model.safetensors: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "folder",
    [folder for folder in PUBLISHED if (folder / "tables/table1.csv").exists()],
    ids=lambda folder: folder.name,
)
def test_published_means_are_those_of_the_published_runs(folder):
    """Mean and standard deviation over finished runs, by pandas alone, of tables 1 and 2: of all that do not tune."""
    runs, table, by_features = (pd.read_csv(folder / f"tables/{name}.csv") for name in ("runs", "table1", "table2"))
    by = ["recipe", "dataset", "latent_dim", "arm"]
    finished = runs[runs["status"] == "finished"].groupby(by)
    compared = []

    def compare(table: pd.DataFrame, name_in_runs: Callable[[str], str]) -> None:
        table = table.set_index(by)
        for name in [name for name in table if f"{name}_sd" in table and name_in_runs(name) in runs]:
            values = finished[name_in_runs(name)]
            for wanted, column in ((values.mean(), name), (values.std(), f"{name}_sd")):
                got = table.loc[[place for place in table.index if place in wanted.index], column]
                assert got.to_numpy() == pytest.approx(wanted.loc[got.index].to_numpy(), rel=1e-9, nan_ok=True), column
            compared.append(name)

    compare(table, lambda name: name)
    for features, part in by_features.groupby("features"):
        assert features in EXTRACTORS
        compare(part, lambda name, of=EXTRACTORS[features]: in_runs(name, of))
    assert {"elbo", "reconstruction", "probe_accuracy", "fd_samples", "kid_reconstructions"} <= {*compared}


def in_runs(name: str, extractor: Extractor) -> str:
    """The name in runs.csv of a column of table 2.

    >>> in_runs("fd_samples", EXTRACTORS["classifier"])
    'fd_classifier_samples'
    """
    kind, _, what = name.partition("_")
    return f"{extractor.metric(kind)}_{what}" if kind in ("fd", "kid", "precision", "recall") else name


JUDGED = [folder for folder in PUBLISHED if "difference" in claims_of(folder)]


@pytest.mark.parametrize("folder", JUDGED, ids=lambda folder: folder.name)
def test_published_claims_follow_from_the_published_runs(folder):
    """By SciPy: a t-test of the seeds' differences (protocol 1), or Welch's (protocol 2)."""
    runs, claims = pd.read_csv(folder / "tables/runs.csv"), claims_of(folder)
    runs = runs[runs["status"] == "finished"].set_index(["dataset", "recipe", "latent_dim"])
    compared = claims[claims["difference"].notna()]
    if "test" in claims:
        assert len(compared) == claims["test"].isin(COMPARED).sum() > 0
    else:
        assert len(compared) >= 11
    for claim in compared.to_dict("records"):
        here = runs.loc[(claim["dataset"], claim["recipe"], claim["latent_dim"])]
        seeds = here.pivot(index="seed", columns="arm", values=claim["metric"])
        sign = 1 if claim["metric"] in LOWER_IS_BETTER else -1
        first, second = (sign * seeds[arm].dropna() for arm in claim["arms"].split(" against "))
        if "role" in claim:
            found, mean = stats.ttest_ind(first, second, equal_var=False), first.mean() - second.mean()
        else:
            differences = (first - second).dropna()
            found, mean = stats.ttest_1samp(differences, 0), differences.mean()
            assert claim["n"] == len(differences)
        wanted = [mean, *found.confidence_interval(0.9), *found.confidence_interval(0.95)]
        ends = [f"interval_{level}_{end}" for level in (90, 95) for end in ("low", "high")]
        assert [claim["difference"], *(claim[end] for end in ends)] == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    "folder", [path for path in JUDGED if "role" not in claims_of(path)], ids=lambda path: path.name
)
def test_published_verdicts_follow_from_the_published_intervals(folder):
    """By the rules of protocol 1: Holm's p over the confirmatory claims, 90 % within the margin, 5 seeds."""
    claims = claims_of(folder).query("difference == difference")
    family = claims[claims["confirmatory"]].sort_values("p")
    steps = family["p"] * [*range(len(family), 0, -1)]
    adjusted = steps.cummax().clip(upper=1).reindex(claims.index).fillna(claims["p"])
    assert claims["p_holm"].to_numpy() == pytest.approx(adjusted.to_numpy(), rel=1e-9)
    for claim in claims.to_dict("records"):
        low, high, margin = claim["interval_90_low"], claim["interval_90_high"], claim["margin"]
        if claim["claim"].endswith("-matches"):
            holds, fails = claim["p_holm"] <= 0.05, low > margin
        else:
            holds = claim["p_holm"] <= 0.05 and claim["difference"] < 0
            fails = claim["interval_95_low"] > 0 or -margin < low < high < margin
        wanted = "inconclusive" if claim["n"] < 5 else "reproduced" if holds else "not reproduced" if fails else None
        assert claim["verdict"] == (wanted or "inconclusive"), claim["claim"]


def test_what_git_has_of_results_stays_small():
    """Below 20 MB in all, 200 kB a picture and 2.5 MB a model."""
    kept = (ROOT / "results/published", ROOT / "results/records")
    files = [path for folder in kept for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20e6
    assert max(path.stat().st_size for path in files if path.suffix == ".png") <= 200_000
    models = [path for path in files if path.suffix == ".safetensors" and path.parent.name != "references"]
    assert {path.parent.name for path in models} == {*FOUR} and max(path.stat().st_size for path in models) <= 2.5e6


def test_pictures_are_published_of_the_networks_whose_models_are(tmp_path):
    study = read_yaml(ROOT / "config/resnet_sizes.yaml")

    def networks(ending, **changes):
        found = Plan(check(study | changes), tmp_path)
        return sorted({name.rpartition("/")[0] for name in _made(found) if re.match(f"figures/.*{ending}", name)})

    names = ("resnet-w16/mnist-z128", "resnet-w8/fashion_mnist-z128", "resnet-w8/mnist-z128")
    every = [f"figures/{name}" for name in names]
    assert networks("png") == every[1:2]
    assert networks("png", published_models={"recipe": "resnet-w8", "seed": 210}) == every[1:]
    assert networks("csv") == every
    del study["published_models"]
    assert networks("png") == every
