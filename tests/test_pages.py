"""`make pages` leaves no difference: every number and every interpretation of a page follows from what is published."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from jinja2 import Environment

from bvae.errors import InputError
from bvae.report.publication import newest
from bvae.report.published_data import read_data, write_data
from bvae.system.files import sha256_of_file, write_json
from tools.overview import draw, draw_series, overview
from tools.pages import SIZES, Given, pages, reflow, render
from tools.published import PUBLISHED, ROOT, Published

HERE = Published()  # reads each file once, for all tests of a process


@pytest.mark.parametrize("page", pages())
def test_make_pages_leaves_no_difference(page):
    """If this fails: `make pages`. If that fails, a sentence no longer says what the results say."""
    assert render(page, HERE) == (ROOT / page).read_text(encoding="utf-8")


def test_the_pages_of_numbers_have_templates():
    assert {"README.md", "docs/results.md", "docs/notebook.md", "docs/protocol1.md", "docs/model.md"} <= set(pages())


def test_the_numbers_of_the_picture_are_those_that_make_pages_writes():
    frame = overview(HERE)
    assert frame.to_csv(index=False, lineterminator="\n") == (PUBLISHED / "overview.csv").read_text()
    drawn = [len(axes.lines) for axes in draw(frame).axes]
    assert len(drawn) == 5 and min(drawn) >= 20  # a panel a task, in each the points of every arm


def test_the_picture_of_sizes_has_a_column_for_each_study(tmp_path):
    """The second is a copy of the first on another data set, with all ELBOs 100 nats lower."""
    for study, dataset, lower in (("scaling_mnist", "mnist", 0), ("again", "other", 100)):
        folder = Path(shutil.copytree(newest(PUBLISHED)["scaling_mnist"], tmp_path / f"{study}-1"))
        data, manifest = read_data(folder), json.loads((folder / "manifest.json").read_text())
        for block in data["study"]["blocks"]:
            block["datasets"] = [dataset]
        for row in data["results"].values():
            row |= {"dataset": dataset, "elbo": row["elbo"] - lower} if "elbo" in row else {}
        write_data(data, folder / "data.json.gz")
        manifest["files"]["data.json.gz"] = sha256_of_file(folder / "data.json.gz")
        write_json(folder / "manifest.json", manifest | {"study": study})
    first, second, *_ = draw_series(Published(tmp_path), "scaling_mnist", "again").axes
    runs = HERE.runs("scaling_mnist", "bvae_gain").groupby("parameters")["elbo"].mean()
    for axes, lower in ((first, 0), (second, 100)):
        lines = {line.get_label(): line for line in axes.get_lines()}
        assert lines["BVAE + gain"].get_xdata().tolist() == runs.index.tolist()
        assert lines["BVAE + gain"].get_ydata() == pytest.approx((runs - lower).tolist())


# --- what is planted is found ---------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path) -> Path:
    """A copy of the numbers of results/published/, to change."""

    def others(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(name).suffix not in ("", ".csv", ".gz", ".json") and "-" not in name]

    return Path(shutil.copytree(PUBLISHED, tmp_path / "published", ignore=others, copy_function=shutil.copyfile))


def change(results: Path, study: str, name: str, row: dict, **values) -> None:
    """Give the rows of a csv file that have these values other ones."""
    path = newest(results)[study] / name
    table = pd.read_csv(path)
    chosen = (table[list(row)] == list(row.values())).all(axis=1)
    assert chosen.any()
    for column, value in values.items():
        table.loc[chosen, column] = value
    table.to_csv(path, index=False)


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_a_copy_of_the_results_gives_the_same_page(results, page):
    assert render(page, Published(results)) == (ROOT / page).read_text(encoding="utf-8")


def test_a_wrong_number_in_the_results_is_noticed(results):
    """The ELBO of one run of 40, by less than a nat."""
    change(results, "mnist_mlp", "tables/runs.csv", {"arm": "bvae_gain", "seed": 3}, elbo=-96.0)
    assert render("docs/results.md", Published(results)) != (ROOT / "docs/results.md").read_text(encoding="utf-8")


def test_a_wrong_number_of_a_tuning_run_is_noticed(results):
    """The page of protocol 1 says that half the rate is 0.26 nats worse, and that this tips a match by a nat."""
    row = {"learning_rate": 0.002, "arm": "vae"}
    change(results, "tuning_fashion_mlp", "tuning.csv", row, elbo=-235.65)
    assert "rate, which is 0.20 nats worse" in " ".join(render("docs/protocol1.md", Published(results)).split())
    change(results, "tuning_fashion_mlp", "tuning.csv", row, elbo=-235.5)
    with pytest.raises(InputError, match="The match in ELBO of the MLP on Fashion-MNIST depends on how learning rates"):
        render("docs/protocol1.md", Published(results))


def test_a_wrong_count_of_verdicts_is_noticed(results):
    change(results, "mnist_mlp_e10", "claims.csv", {"claim": "reconstruction-matches"}, verdict="reproduced")
    assert render("docs/results.md", Published(results)) != (ROOT / "docs/results.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("study", "width"), list(zip(SIZES, (512, 1024), strict=True)))
def test_a_wrong_number_in_the_readme_is_noticed(results, study, width):
    change(results, study, "sizes.csv", {"arm": "bvae_gain", "width": width}, equal_width=0.73)
    assert render("README.md", Published(results)) != (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "claim", "said"),
    [
        ("docs/results.md", "elbo-matches", "1.56 nats worse in ELBO, both beyond the margins"),
        ("docs/results.md", "reconstruction-outperforms", "In none of them did we reproduce"),
        ("docs/protocol1.md", "reconstruction-outperforms", "The only lead over the matched VAE"),
    ],
)
def test_a_changed_verdict_breaks_the_page_that_interprets_it(results, page, claim, said):
    change(results, "mnist_mlp", "claims.csv", {"claim": claim}, verdict="reproduced")
    with pytest.raises(InputError, match=rf"docs/templates/\S+, line \d+: .*no longer say this: .*{said}"):
        render(page, Published(results))


# --- the two parts of the generator ---------------------------------------------------------------------------------


def test_a_sentence_stands_only_while_its_condition_holds():
    template = Environment(extensions=[Given]).from_string("A {% given n > 1 %}{{ n }} seeds{% endgiven %} B")
    assert template.render(n=2) == "A 2 seeds B"
    with pytest.raises(InputError, match="line 1: .*'1 seeds'"):
        template.render(n=1)


def test_paragraphs_are_filled_and_nothing_else_is():
    long = "word " * 40
    page = f"# {long}\n\none\ntwo BVAE\n+ gain\n\n* {long}\n  {long}\n* item\n\n    code\n    more\n\n"
    page += f"| {long}|\n```\na\n\n\nb\n```\n"
    done = reflow(page)
    assert f"# {long.strip()}\n\none two BVAE + gain\n\n* word" in done
    assert "\n* item\n\n    code\n    more\n\n| word" in done and done.endswith("```\na\n\n\nb\n```\n")
    assert max(map(len, done.split("* word")[1].split("* item")[0].splitlines())) <= 120
    for width in range(90, 130):  # wherever a line ends, none begins as an item
        assert "\n+ gain" not in reflow(f"{'x' * width} BVAE + gain and more words\n")
    assert reflow(reflow(page)) == done
