"""Tables: means and spreads by hand, what stands below them, and what their files say."""

import json
import math
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import bvae
from bvae.errors import InputError
from bvae.evaluation.metrics import OF_CONTROLS, TASKS, run_metrics, versions
from bvae.report.footnotes import on_runs
from bvae.report.made_from import Plan, results_of
from bvae.report.outdated import outdated
from bvae.report.tables import collect_runs, provenance, table1, table2, table_of_runs, write_tables
from bvae.report.typeset import Table, latex, markdown, to_html, to_latex, to_markdown, write_table
from bvae.study.runs import group_paths
from bvae.system.files import read_json, write_json
from helpers.run_results import GENERATED, SETTINGS, lost, run_row, study_of, write_study


@pytest.fixture
def written(tmp_path):
    """A function that writes a study's runs, controls and cost below a folder, and returns the study."""
    return lambda rows: write_study(rows, tmp_path)


ROWS = [run_row(arm, seed) for arm in ("bvae", "vae") for seed in (0, 1, 2)]


@pytest.mark.parametrize(
    ("part", "fact", "value"),
    [
        ("cost", "arms", {"bvae": {}}),
        ("cost", "settings", SETTINGS | {"threads": 9}),
        ("cost", "training_version", 0),
        ("untrained", "settings", SETTINGS | {"threads": 9}),
        ("untrained", "seed", 7),
        ("untrained", "versions", versions(OF_CONTROLS)),
        ("pca", "latent_dim", 5),
        ("controls", "versions", {}),
    ],
)
def test_outdated_controls_and_costs_are_refused_by_name(written, tmp_path, part, fact, value):
    """A table takes none that was made from anything else, claims take no cost."""
    study = written(ROWS)
    path = tmp_path / group_paths(study)[0][part]
    write_json(path, json.loads(path.read_text()) | {fact: value})
    with pytest.raises(InputError, match=rf"{re.escape(str(path))} was made from {fact}"):
        write_tables(study, tmp_path / "tables", tmp_path)
    assert not (tmp_path / "tables").exists()
    if part != "controls":
        assert len(collect_runs(study, "claims", tmp_path)) == len(ROWS)


def test_means_spreads_and_controls_by_hand(written, tmp_path):
    table = table1(written(ROWS), ROWS, tmp_path)
    line = table.frame.set_index("arm").loc["vae"]
    assert (line["n"], line["elbo"], line["elbo_sd"], line["parameters"]) == (3, -101.0, 1.0, 100)
    shown = table.text.set_index("Arm")
    assert shown.loc["VAE", "ELBO ↑"] == "-101.00 ± 1.00"
    assert shown.loc["VAE", "Probe % ↑"] == "91.00 ± 1.00"
    assert (shown.loc["VAE", "SSIM ↑"], shown.loc["PCA", "SSIM ↑"]) == ("–", "")
    assert list(shown.index[2:]) == [
        "untrained encoder",
        "PCA",
        "raw pixels",
        "majority class",
        "mean image",
        "real images",
    ]
    assert list(shown["Probe % ↑"][2:6]) == ["60.00", "70.00", "80.00", "12.50"]
    assert shown.loc["mean image", "ELBO ↑"] == "-200.00"
    assert shown.loc["real images", "FD classifier ↓"] == "2.00"


def test_probes_of_samples_are_in_tables_of_protocol_2_only(written, tmp_path):
    rows = [row | {"probe_sampled_accuracy": 0.7, "probe_sampled_inactive_accuracy": 0.1} for row in ROWS]
    study = written(rows)
    assert "probe_sampled_accuracy" not in table1(study, ROWS, tmp_path).frame
    table = table1(study | {"protocol": 2}, rows, tmp_path)
    shown = table.text.set_index("Arm")
    assert list(shown["Probe z % ↑"][:3]) == ["70.00 ± 0.00", "70.00 ± 0.00", "50.00"]
    assert list(shown["Inactive z %"][:3]) == ["10.00 ± 0.00", "10.00 ± 0.00", ""]
    assert any("Probe z" in note for note in table.notes)
    assert not any("Probe z" in note for note in table1(study, ROWS, tmp_path).notes)


def test_one_seed_has_no_spread(written, tmp_path):
    rows = [run_row("bvae", 0), run_row("vae", 0)]
    table = table1(written(rows), rows, tmp_path)
    assert pd.isna(table.frame.loc[0, "elbo_sd"])
    assert table.text.loc[0, "ELBO ↑"] == "-100.00"


def test_a_diverged_run_is_counted_and_hides_no_floor(written, tmp_path):
    rows = [lost(ROWS[0]), *ROWS[1:]]
    table = table1(written(rows), rows, tmp_path)
    assert table.text.loc[0, "n"] == "2 (1 diverged)"
    assert table.frame.loc[0, "elbo"] == -101.5
    assert table.text.set_index("Arm").loc["real images", "FD classifier ↓"] == "2.00"
    assert list(table_of_runs(study_of(rows), rows).text["Status"])[:2] == ["diverged", "finished"]
    every = [lost(row) for row in ROWS]
    assert list(table1(written(every), every, tmp_path).text["n"])[:2] == ["0 (3 diverged)"] * 2
    assert list(table2(study_of(every), every).text["n"]) == ["0 (3 diverged)"] * 2


@pytest.mark.parametrize(
    ("changes", "marked"),
    [({}, True), ({"binary_pixels": True}, False), ({"likelihood": "gaussian"}, False)],
)
def test_bounds_that_are_no_likelihoods_bear_a_dagger(written, tmp_path, changes, marked):
    rows = [row | changes for row in ROWS]
    study = written(rows)
    controls = json.loads((tmp_path / "results/controls/fake/controls.json").read_text())
    write_json(
        tmp_path / "results/controls/fake/controls.json", controls | {"mean_image_log_likelihood_gaussian": -300.0}
    )
    table = table1(study, rows, tmp_path)
    assert (table.text.loc[0, "Data set"] == "fake †") == marked
    assert any(note.startswith("† Grey pixels under a Bernoulli") for note in table.notes) == marked


def test_generation_has_its_floor_and_both_features(written):
    rows = [
        row
        | {"fid_images": 1_234, "fid_floor": 1.0, "precision_inception_samples": 0.5}
        | {f"fid_{what}": 30.0 for what in GENERATED}
        for row in ROWS
    ]
    table = table2(study_of(rows), rows)
    assert list(table.frame["features"]) == ["inception"] * 3 + ["classifier"] * 3
    assert list(table.frame["arm"]) == ["bvae", "vae", "real_images"] * 2
    assert list(table.frame["fd_interpolations"]) == [30.0, 30.0, 1.0, 51.0, 51.0, 2.0]
    assert list(table.frame["precision_samples"][:2]) == [0.5, 0.5]
    assert {"fid_samples", "precision_inception_mixture_samples"} <= run_metrics().keys()


def test_distances_along_the_path_are_columns_of_protocol_2_only(written):
    rows = [row | {"fd_classifier_path_interpolations": 40.0} for row in ROWS]
    table = table2(study_of(rows) | {"protocol": 2}, rows)
    assert list(table.frame["fd_path_interpolations"]) == [40.0, 40.0, 2.0]
    assert list(table.text["Along path ↓"]) == ["40.00 ± 0.00", "40.00 ± 0.00", "2.00"]
    assert not [name for name in table2(study_of(ROWS), ROWS).frame if "path_interpolations" in name[3:]]


@pytest.mark.parametrize(("kid", "shown"), [(0.0123456, "0.01235 ± 0.0011"), (16310.9, "1.631e+04 ± 1.4e+03")])
def test_kid_has_four_significant_digits(written, kid, shown):
    rows = [row | {"kid_classifier_samples": kid * (1 + (row["seed"] - 1) * 0.0857)} for row in ROWS]
    assert table2(study_of(rows), rows).text.loc[0, "KID ↓"] == shown


def test_every_file_is_written_and_says_the_same(written, tmp_path):
    study = written(ROWS)
    write_tables(study, tmp_path / "tables", tmp_path)
    for name in ("table1", "table2", "table3", "runs"):
        csv = pd.read_csv(tmp_path / f"tables/{name}.csv")
        document = json.loads((tmp_path / f"tables/{name}.json").read_text())
        assert len(document["rows"]) == len(csv)
        assert document["provenance"]["study"] == "s"
        page, tex = ((tmp_path / f"tables/{name}.{suffix}").read_text() for suffix in ("html", "tex"))
        for note in document["notes"]:
            assert f"<p>{note}</p>" in page
            assert f"% {latex(note)}\n" in tex
        assert not re.search(r"[↓↑±†–×³−]", tex.split("\\begin")[1].split("\\end")[0])  # LaTeX has its own
    cut = pd.read_csv(tmp_path / "tables/table3.csv").set_index("arm")["cut"]
    assert cut["bvae"] == pytest.approx(0.48) and cut["vae"] == 0
    assert "48.0" in (tmp_path / "tables/table3.tex").read_text()


def test_a_table_is_cited_by_an_id_that_is_its_numbers(written, tmp_path):
    """The same whatever the order of the runs; another as soon as one result is; on every page and in the LaTeX."""
    facts = provenance(study_of(ROWS), ROWS)
    assert re.fullmatch(r"s-[0-9a-f]{12}", facts["id"])
    assert provenance(study_of(ROWS), ROWS[::-1])["id"] == facts["id"]
    others = [[*ROWS[:-1], ROWS[-1] | {"elbo": math.nextafter(ROWS[-1]["elbo"], 0)}], ROWS[:-1]]
    assert len({provenance(study_of(rows), rows)["id"] for rows in others} | {facts["id"]}) == 3
    write_tables(written(ROWS), tmp_path / "tables", tmp_path)
    assert f"<p>To cite: table2 of {facts['id']}.</p>" in (tmp_path / "tables/table2.html").read_text()
    assert (tmp_path / "tables/table2.tex").read_text().startswith(f"% {facts['id']}: bvae ")


def test_signs_of_latex_are_escaped(written, tmp_path):
    rows = [row | {"dataset": "a_b&c"} for row in ROWS]
    table = table_of_runs(study_of(rows), rows)
    tex = to_latex(table, provenance(study_of(rows), rows))
    body = tex.split("\\begin")[1].split("\\end")[0]
    assert r"a\_b\&c $\dagger$" in body and body.count(r"a\_b\&c") == 1  # named once
    assert r"Probe \% $\uparrow$" in tex


TITLE = "~R&D 5 % #1 <script>x^2_{i} \\input{a} $y$ [b](c) `d` *e* \nnew"


def test_a_title_is_text_in_every_kind_of_file(written, tmp_path):
    study = written(ROWS) | {"title": TITLE}
    write_tables(study, tmp_path / "tables", tmp_path)
    tex, page = ((tmp_path / f"tables/table1.{suffix}").read_text() for suffix in ("tex", "html"))
    shown = r"\textasciitilde{}R\&D 5 \% \#1 \textless{}script\textgreater{}x\textasciicircum{}2\_\{i\}"
    shown += r" \textbackslash{}input\{a\} \$y\$ [b](c) `d` *e*  new: reconstruction"
    assert f"Caption: {shown}" in tex
    assert "R&amp;D 5 % #1 &lt;script&gt;x^2" in page and "<script" not in page
    shown = r"\~R\&D 5 % \#1 \<script\>x^2\_\{i\} \\input\{a\} \$y\$ \[b\](c) \`d\` \*e\*  new"
    assert markdown(TITLE) == shown


def test_cells_headings_and_notes_are_text_in_a_page():
    table = table_of_runs(study_of(ROWS), [row | {"dataset": "a<b>&c"} for row in ROWS])
    table = replace(table, text=table.text.rename(columns={"Arm": "<u>Arm"}), notes=["n < 5 & <hr>"])
    page = to_html(table, provenance(study_of(ROWS), ROWS))
    assert "a&lt;b&gt;&amp;c" in page and "&lt;u&gt;Arm" in page and "<p>n &lt; 5 &amp; &lt;hr&gt;</p>" in page
    assert not re.search("<(b|u|hr)>", page)


def test_a_cell_of_markdown_ends_where_it_ends():
    text = to_markdown(pd.DataFrame({"a|b": ["x | y", "two\nlines"], "c": [r"escaped \| already", "*"]}))
    assert text.splitlines() == [
        r"| a\|b | c |",
        "| --- | --- |",
        r"| x \| y | escaped \| already |",
        "| two lines | * |",
    ]


def git(folder: Path, *words: str) -> str:
    """What git says in a folder, to someone who has no settings."""
    names = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)} | names
    command = ["git", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def unpacked(folder: Path) -> Path:
    """A package without its repository below a folder; returns the file that it was imported from."""
    (folder / "bvae").mkdir(parents=True)
    (folder / "bvae/__init__.py").touch()
    return folder / "bvae/__init__.py"


@pytest.mark.parametrize("place", ["bvae-main", ".venv/lib/python3.11/site-packages", "."])
def test_the_commit_of_a_repository_around_the_package_is_not_its_own(tmp_path, monkeypatch, place):
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "of another project")
    monkeypatch.setattr(bvae, "__file__", str(unpacked(tmp_path / place)))
    facts = provenance(study_of(ROWS), ROWS)
    assert (facts["commit"], facts["uncommitted_changes"]) == (None, None)


def test_a_changed_record_is_an_uncommitted_change_and_a_new_one_is_not(tmp_path, monkeypatch):
    """As results are input only where they are records."""
    file = unpacked(tmp_path)
    record = tmp_path / "results/records/r-12345678/metrics.json"
    write_json(record, {"elbo": -90.0})
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "recorded")
    monkeypatch.setattr(bvae, "__file__", str(file))
    write_json(record.with_name("new.json"), {})
    write_json(tmp_path / "results/studies/s.json", {})
    assert provenance(study_of(ROWS), ROWS)["uncommitted_changes"] is False
    write_json(record, {"elbo": -80.0})
    assert provenance(study_of(ROWS), ROWS)["uncommitted_changes"] is True


def test_the_commit_of_the_checkout_is_its_own_whatever_the_environment_names(tmp_path, monkeypatch):
    file, other = unpacked(tmp_path / "here"), tmp_path / "other"
    for folder in (file.parents[1], other):
        folder.mkdir(exist_ok=True)
        git(folder, "init", "-q")
        git(folder, "add", ".")
        git(folder, "commit", "-q", "--allow-empty", "-m", folder.name)
    monkeypatch.setattr(bvae, "__file__", str(file))
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))  # as a hook of another repository has it
    head = git(file.parents[1], "rev-parse", "HEAD")
    facts = provenance(study_of(ROWS), ROWS)
    assert (facts["commit"], facts["uncommitted_changes"]) == (head, False)
    file.write_text("changed")
    assert provenance(study_of(ROWS), ROWS)["uncommitted_changes"] is True
    (tmp_path / "link").symlink_to(file.parents[1])
    monkeypatch.setattr(bvae, "__file__", str(tmp_path / "link/bvae/__init__.py"))
    assert provenance(study_of(ROWS), ROWS)["commit"] == head


def test_markdown_has_a_line_a_row():
    assert to_markdown(pd.DataFrame({"a": ["1", "2"], "b": ["x", "y"]})) == (
        "| a | b |\n| --- | --- |\n| 1 | x |\n| 2 | y |\n"
    )


@pytest.mark.parametrize("change", [{"device": "GPU"}, {"precision": "bfloat16"}])
def test_arms_of_a_seed_that_were_not_trained_alike_are_named(change):
    rows = [run_row(arm, seed) for arm in ("bvae", "vae") for seed in (0, 1)]
    assert "were not trained" not in on_runs(rows)
    other = "GPU, float32" if "device" in change else "CPU, bfloat16"
    text = on_runs([*rows[:-1], rows[-1] | change])
    assert "1 of 2 seeds have arms that were not trained on the same device in the same precision" in text
    assert f"trained on {'; '.join(sorted(['CPU, float32', other]))}." in text


def test_what_changes_while_tables_are_written_makes_them_outdated(tmp_path, monkeypatch):
    study = write_study(ROWS, tmp_path)
    write_tables(study, tmp_path / "results/studies/s/tables", tmp_path)
    plan = Plan(study, tmp_path)
    [of_tables] = [result for result in results_of(plan) if result.path.endswith("made_from/table.json")]
    assert outdated(plan, [of_tables], known_only=True) == {}
    changed = tmp_path / "results/controls/fake/controls.json"

    def write_and_change(*arguments: object) -> None:
        write_table(*arguments)
        write_json(changed, read_json(changed) | {"probe_accuracy_raw_pixels": 0.7})

    monkeypatch.setattr("bvae.report.tables.write_table", write_and_change)
    write_tables(study, tmp_path / "results/studies/s/tables", tmp_path)
    [reason] = outdated(Plan(study, tmp_path), [of_tables], known_only=True).values()
    assert reason.startswith("was made from results/controls/fake/controls.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"likelihood": {"name": "gaussian"}}}, "was made from settings"),
        ({"importance": {"samples": [1], "images": 5}}, "was made from importance"),
        ({"training_version": 0}, "was made from training_version 0"),
        ({"tasks": {name: {"version": 0} for name in versions(TASKS)}}, "was made from task size"),
        (
            {"tasks": {"size": {"version": versions(TASKS)["size"]}}},
            "was made from task reconstruction null",
        ),  # before there were more
        ({"dataset_sha256": "1" * 64}, "other data than the runs before"),
    ],
)
def test_stale_runs_are_refused_by_name(written, tmp_path, changes, message):
    study = written([*ROWS[:-1], ROWS[-1] | changes])
    with pytest.raises(InputError, match=f"vae-z4-seed2/metrics-[0-9a-f]+.json:? .*{message}"):
        collect_runs(study, "table", tmp_path)


def test_controls_and_costs_that_another_recipe_of_equal_settings_named_are_found(written, tmp_path):
    study = written(ROWS)
    for part in ("untrained", "costs"):
        [folder] = (tmp_path / "results" / part).iterdir()
        folder.rename(folder.with_name(f"other-{folder.name.rpartition('-')[2]}"))
    write_tables(study, tmp_path / "tables", tmp_path)
    assert {"table1.csv", "table3.csv"} <= {path.name for path in (tmp_path / "tables").iterdir()}


@pytest.mark.parametrize("seed", [0, 2])
def test_a_run_without_a_number_that_the_others_have_is_refused(written, tmp_path, seed):
    """Its arm's mean would be over two runs, beside an n of three."""
    rows = [{key: row[key] for key in row if (row["seed"], key) != (seed, "elbo")} for row in ROWS[:3]]
    with pytest.raises(InputError, match=f"bvae-z4-seed{seed}/metrics-[0-9a-f]+.json: has no elbo,"):
        collect_runs(written([*rows, *ROWS[3:]]), "table", tmp_path)


def test_a_diverged_run_needs_no_numbers(written, tmp_path):
    rows = [*ROWS[:-1], lost(ROWS[-1])]
    assert len(collect_runs(written(rows), "table", tmp_path)) == len(rows)


def test_a_data_set_is_named_wherever_it_is_not_that_of_the_line_above():
    text = pd.DataFrame({"Data set": ["a", "a", "b", "a"], "Arm": list("wxyz")})
    facts = {"id": "x", "commit": None, "config_sha256": "0" * 64}
    lines = to_latex(Table("t", "T", text, text, 2), facts).splitlines()
    rows = [line.split("&")[0].strip() for line in lines if "&" in line]
    assert rows == ["Data set", "a", "", "b", "a"]
