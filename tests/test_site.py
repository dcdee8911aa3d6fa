"""The results page: its numbers are those of the published files, and it works in a browser without a network."""

import csv
import json
import re
import shutil
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from bvae.__main__ import main
from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.report.judgement import describe_study, judge_study
from bvae.report.site.charts import SHAPES
from bvae.report.site.page import page_data, render, write_site
from bvae.report.site.publications import read_publications
from helpers import browser
from helpers.checkouts import ROOT

PUBLISHED = ROOT / "results/published"
STUDIES = ("fashion_mlp-1", "mnist_mlp-1", "mnist_resnet-1", "cifar10_jpeg-1")
needs_browser = pytest.mark.skipif(browser.CHROMEDRIVER is None, reason="no Chromium: apt install chromium-driver")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("site") / "site.html"
    write_site(PUBLISHED, path)
    return path


@pytest.fixture(scope="module")
def data(page) -> dict:
    return data_of(page.read_text(encoding="utf-8"))


@pytest.fixture
def copy(tmp_path) -> Path:
    """A folder with one small publication, to plant numbers in."""
    folder = tmp_path / "published/fashion_resnet-1"
    shutil.copytree(PUBLISHED / folder.name, folder, ignore=shutil.ignore_patterns("*.svg", "*.png"))
    return folder


def data_of(text: str) -> dict:
    found = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])
    tables = found["tables"].items()
    return {name: [dict(zip(of["columns"], row, strict=True)) for row in of["rows"]] for name, of in tables}


def rows_of(data: dict, key: str, study: str) -> list[dict]:
    places = {place["id"] for place in data["places"] if place["study"] == study}
    return [row for row in data[key] if row["place"] in places]


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path)


@pytest.mark.parametrize("study", STUDIES)
def test_claims_and_differences_are_those_of_the_claims_file(data, study):
    claims = read(PUBLISHED / study / "claims.csv")
    shown = rows_of(data, "claims", study)
    assert sorted((row["text"], row["verdict"]) for row in shown) == sorted(
        claims[["text", "verdict"]].itertuples(index=False)
    )
    compared = claims[claims["difference"].notna() & claims["arms"].str.endswith(" against vae")]
    assert len(compared) >= 8
    for claim in compared.to_dict("records"):
        arm = claim["arms"].split(" ")[0]
        differences = rows_of(data, "differences", study)
        [found] = [row for row in differences if (row["arm"], row["metric"]) == (arm, claim["metric"])]
        names = {"n": "n", "difference": "difference", "margin": "margin", "mean": "mean_1", "mean_vae": "mean_2"}
        names |= {"low": "interval_95_low", "high": "interval_95_high"}
        assert {key: found[key] for key in names} == pytest.approx({key: claim[name] for key, name in names.items()})


@pytest.mark.parametrize("study", STUDIES)
def test_means_are_those_of_table_1(data, study):
    table = read(PUBLISHED / study / "tables/table1.csv").set_index("arm")
    means = [row for row in rows_of(data, "means", study) if row["metric"] in table]
    assert len(means) > 40
    for row in means:
        line = table.loc[row["arm"]]
        assert (row["mean"], row["sd"]) == pytest.approx((line[row["metric"]], line[f"{row['metric']}_sd"]))
        assert (row["n"], row["diverged"], row["parameters"]) == tuple(line[["n", "diverged", "parameters"]])


def test_a_study_without_claims_has_differences_and_no_verdicts(data):
    assert rows_of(data, "claims", "resnet_sizes-1") == []
    found = [row for row in rows_of(data, "differences", "resnet_sizes-1") if row["metric"] == "elbo"]
    table = read(PUBLISHED / "resnet_sizes-1/comparisons.csv").query("metric == 'elbo'")
    wanted = table[table["arms"].str.endswith(" against vae")]
    assert len(found) == len(wanted) == 9  # three arms against the VAE, three networks
    for names in (("difference", "difference"), ("low", "interval_95_low"), ("high", "interval_95_high")):
        values = (sorted(row[names[0]] for row in found), sorted(wanted[names[1]]))
        assert values[0] == pytest.approx(values[1])


def test_a_planted_number_is_shown(copy):
    claims, runs = read(copy / "claims.csv"), read(copy / "tables/runs.csv")
    claims.loc[claims["claim"] == "elbo-matches", ["difference", "verdict"]] = [12345.678, "depends"]
    runs.loc[(runs["arm"] == "bvae") & (runs["seed"] == 0), "elbo"] = -98765.4321
    claims.to_csv(copy / "claims.csv", index=False)
    runs.to_csv(copy / "tables/runs.csv", index=False)
    text = render(page_data(read_publications(copy.parent), copy.parent))
    data = data_of(text)
    assert [row["verdict"] for row in data["claims"] if row["difference"] == 12345.678] == ["depends"]
    assert -98765.4321 in {row["elbo"] for row in data["runs"]}
    [found] = [row for row in data["differences"] if (row["arm"], row["metric"]) == ("bvae", "elbo")]
    assert found["difference"] > 10_000
    assert text == render(page_data(read_publications(copy.parent), copy.parent))


def test_a_study_of_protocol_2_has_its_own_intervals_and_margins(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    config = manifest["provenance"]["config"]
    config |= {"protocol": 2, "claims": [{"test": "matches", "task": "elbo", "arms": ["bvae", "vae"]}]}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    runs = read_publications(copy.parent)[0].runs
    pd.DataFrame(judge_study(config, runs)).to_csv(copy / "claims.csv", index=False)
    data = page_data(read_publications(copy.parent), copy.parent)
    [judged], [claim] = judge_study(config, runs), data["claims"]
    assert (claim["verdict"], claim["n"]) == (judged["verdict"], 6)
    wanted = {(row["metric"], row["arms"]): row for row in describe_study(config, runs)}
    for row in data["differences"]:
        if found := wanted.get((row["metric"], f"{row['arm']} against vae")):
            assert row["difference"] == pytest.approx(found["difference"])
            assert (row["low"], row["high"]) == pytest.approx((found["interval_95_low"], found["interval_95_high"]))
    margins = {row["metric"]: row["margin"] for row in data["differences"] if row["arm"] == "bvae"}
    assert (margins["elbo"], margins["probe_accuracy"], margins["ssim"]) == (0.25, 0.005, None)
    assert {row["metric"] for row in data["power"]} >= {"elbo", "mse_per_pixel", "probe_accuracy"}


class Cells(HTMLParser):
    """The rows of cells, and the links, within the noscript elements of a page."""

    def __init__(self):
        super().__init__()
        self.rows, self.links, self.within, self.cell = [], [], False, False

    def handle_starttag(self, tag, attrs):
        self.links += [dict(attrs)["href"]] if self.within and tag == "a" else []
        self.within |= tag == "noscript"
        self.cell = self.within and tag in ("td", "th")
        if self.within and tag == "tr":
            self.rows.append([])
        if self.cell:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.within &= tag != "noscript"
        self.cell &= tag not in ("td", "th")

    def handle_data(self, text):
        if self.cell:
            self.rows[-1][-1] += text


def test_without_programs_the_page_has_the_verdicts_and_stays_small(data, page):
    cells = Cells()
    cells.feed(page.read_text(encoding="utf-8"))
    titles, protocols = ({place["title"]: place[key] for place in data["places"]} for key in ("id", "protocol"))
    heads = [row for row in cells.rows if row[0].startswith("Claim, protocol ")]
    assert [head[0] for head in heads] == ["Claim, protocol 2", "Claim, protocol 1"]
    assert all(f"Claim, protocol {protocols[title]}" == head[0] for head in heads for title in head[1:])
    shown = {}
    for row in cells.rows:
        if row in heads:
            head = row
            continue
        cells_of_places = {(titles[title], row[0]): cell for title, cell in zip(head[1:], row[1:], strict=True)}
        shown |= {key: cell for key, cell in cells_of_places.items() if cell not in ("", "no runs")}
    compared = {row["place"] for row in data["claims"] if row["n"] and " against " in row["arms"]}
    assert {titles[title] for head in heads for title in head[1:]} == compared and len(compared) > 8
    verdicts = {(row["place"], row["text"]): row["verdict"] for row in data["claims"] if row["n"]}
    assert shown == {key: verdict for key, verdict in verdicts.items() if key[0] in compared}
    assert len(cells.links) == len(data["publications"])
    assert all((page.parent / link).is_file() for link in cells.links)
    assert page.stat().st_size < 4_000_000  # grows with the studies: 31 publications are 2.6 MB


def test_more_seeds_decide_more(data):
    for metric in ("elbo", "probe_accuracy"):
        rows = [row for row in rows_of(data, "power", "mnist_mlp-1") if (row["arm"], row["metric"]) == ("bvae", metric)]
        effects = [row["effect"] for row in sorted(rows, key=lambda row: row["seeds"])]
        assert effects == sorted(effects, reverse=True)
        [found] = [
            row
            for row in rows_of(data, "differences", "mnist_mlp-1")
            if (row["arm"], row["metric"]) == ("bvae", metric)
        ]
        enough = [row["seeds"] for row in rows if row["effect"] <= row["margin"]]
        assert min(enough) >= found["seeds_needed"]


def test_every_publication_and_picture_is_linked(data, page):
    assert {row["study"] for row in data["publications"]} == {
        path.parent.name for path in PUBLISHED.glob("*/manifest.json")
    }
    assert len({row["title"] for row in data["places"]}) == len(data["places"])
    links = [row["link"] for row in (*data["pictures"], *data["publications"])]
    assert len(links) > 50 and all((page.parent / link).exists() for link in links)
    assert {row["study"] for row in data["pictures"]} >= {*STUDIES, "tuning_mlp-1"}


def test_a_picture_is_of_the_place_that_its_file_names(data):
    """One data set's name is in another's, fashion_mnist, and one number of latents may be in another, 16 in 160."""
    pilots = [row for row in data["pictures"] if row["study"] in ("pilot_mlp-1", "pilot-1")]
    found = {row["link"].rpartition("/")[2]: row["of"] for row in pilots}
    assert found["samples-mlp-mnist-z16.png"] == "mnist, mlp, 16"
    assert found["samples-mlp-fashion_mnist-z16.png"] == "fashion_mnist, mlp, 16"
    assert found["samples-mlp-fashion_mnist-z128.png"] == "fashion_mnist, mlp, 128"
    assert found["samples-mlp-mnist-z128.png"] == ""  # of a study of one place


def test_every_arm_has_a_sign_of_its_own_and_the_programs_are_those_that_altair_writes_for():
    import altair

    signs = [SHAPES[arm.marker] for arm in ARMS.values()]
    assert len(set(signs)) == len(ARMS)
    vendored = (ROOT / "bvae/report/site/vendor/vega-lite.min.js").read_text(encoding="utf-8")
    assert f'"{altair.SCHEMA_VERSION.removeprefix("v")}"' in vendored


def test_bad_input_is_one_clear_message(tmp_path, copy):
    with pytest.raises(InputError, match="no published study"):
        write_site(tmp_path / "nothing", tmp_path / "site.html")
    read(copy / "tables/runs.csv").drop(columns="status").to_csv(copy / "tables/runs.csv", index=False)
    with pytest.raises(InputError, match=r"runs\.csv: found no column status"):
        read_publications(copy.parent)
    assert main(["site", str(copy.parent), "--output", str(tmp_path / "site.html")]) == 1
    assert not (tmp_path / "site.html").exists()


# --- In a browser -----------------------------------------------------------------------------------------------------


@contextmanager
def shown(page: Path, fragment: str = ""):
    with browser.opened(page) as driver:
        load(driver, page, fragment)
        yield driver
        assert browser.complaints(driver) == []
        sources = "return performance.getEntriesByType('resource').map(({name}) => name)"
        assert [
            name for name in driver.execute_script(sources) if not name.startswith(("file:", "data:", "blob:"))
        ] == []


def load(driver, page: Path, fragment: str = "") -> None:
    driver.get("about:blank")
    driver.get(page.as_uri() + fragment)
    settle(driver)


def settle(driver) -> None:
    """Wait until the charts are drawn; a chart that fails raises."""
    fault = driver.execute_async_script(
        "const done = arguments[0]; drawn.then(() => done(null), (e) => done(String(e)))"
    )
    assert fault is None


def choose(driver, name: str, value: str) -> None:
    Select(driver.find_element(By.CSS_SELECTOR, f"select[name={name}]")).select_by_value(value)
    settle(driver)


def labels(driver, chart: str) -> list[str]:
    marks = driver.find_elements(By.CSS_SELECTOR, f"#{chart} svg [aria-roledescription=point][aria-label]")
    return [mark.get_attribute("aria-label") for mark in marks]


def column(driver, name: str) -> list[str]:
    headers = [header.get_attribute("data-column") for header in driver.find_elements(By.CSS_SELECTOR, "#table th")]
    index = headers.index(name) + 1
    return [cell.text for cell in driver.find_elements(By.CSS_SELECTOR, f"#table td:nth-child({index})")]


@needs_browser
def test_a_choice_changes_charts_tables_and_address_and_the_address_brings_it_back(page, data):
    with shown(page) as driver:
        before = labels(driver, "differences")
        wanted = [row for row in data["differences"] if row["metric"] == "reconstruction"]
        assert len(before) == len(wanted) > 30 and all("reconstruction" in label for label in before)
        choose(driver, "metric", "elbo")
        choose(driver, "study", "mnist_mlp-1")
        found = [row for row in rows_of(data, "differences", "mnist_mlp-1") if row["metric"] == "elbo"]
        after = labels(driver, "differences")
        assert len(after) == 3 and not {*after} & {*before}
        for row in found:
            numbers = [f"{row[key]:.4g}" for key in ("difference", "low", "high")]
            text = f"elbo {numbers[0]} [{numbers[1]}, {numbers[2]}]"
            assert any(label.startswith(f"MNIST, MLP, {ARMS[row['arm']].label}: {text}") for label in after), (
                text,
                after,
            )
        driver.find_element(By.CSS_SELECTOR, "#arms input[value=vae_narrow]").click()
        settle(driver)
        driver.find_element(By.CSS_SELECTOR, "th[data-column=difference] button").click()
        settle(driver)
        address, table = driver.current_url, driver.find_element(By.ID, "table").text
        load(driver, page, "#" + address.partition("#")[2])
        assert len(labels(driver, "differences")) == 2
        assert driver.find_element(By.ID, "table").text == table
        assert Select(driver.find_element(By.NAME, "metric")).first_selected_option.get_attribute("value") == "elbo"


@needs_browser
def test_tables_sort_and_their_files_hold_what_they_show(page, data, tmp_path):
    with shown(page, "#table=claims&study=fashion_mlp-1") as driver:
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
        for direction, reverse in (("ascending", False), ("descending", True)):
            driver.find_element(By.CSS_SELECTOR, "th[data-column=text] button").click()
            header = driver.find_element(By.CSS_SELECTOR, "th[data-column=text]")
            assert header.get_attribute("aria-sort") == direction
            texts = column(driver, "text")
            assert len(texts) > 10 and sorted(texts, key=str.lower, reverse=reverse) == texts
        wanted = read(PUBLISHED / "fashion_mlp-1/claims.csv").set_index("text")
        for form in ("csv", "json"):
            driver.find_element(By.CSS_SELECTOR, f"[data-save={form}]").click()
            path = tmp_path / f"bvae-claims.{form}"
            WebDriverWait(driver, browser.PATIENCE).until(lambda _, path=path: path.exists() and path.stat().st_size)
            rows = list(csv.DictReader(path.open())) if form == "csv" else json.loads(path.read_text())
            assert [row["text"] for row in rows] == texts
            for row in rows:
                line = wanted.loc[row["text"]]
                assert row["verdict"] == line["verdict"]
                assert row["difference"] in ("", None) or float(row["difference"]) == line["difference"]
        choose(driver, "table", "differences")
        driver.find_element(By.CSS_SELECTOR, "th[data-column=difference] button").click()
        values = [float(text) for text in column(driver, "difference")]
        assert values == sorted(values) and len(values) == 3
        cells = driver.find_elements(By.CSS_SELECTOR, "#verdicts tbody tr")
        grid = {row.find_element(By.TAG_NAME, "th").text: row.find_element(By.TAG_NAME, "td").text for row in cells}
        assert {claim: text[2:].replace("\n", " ") for claim, text in grid.items()} == dict(wanted["verdict"])


@needs_browser
def test_each_protocol_has_its_table_of_verdicts(page, data):
    with shown(page) as driver:
        of, seen = {place["title"]: place["protocol"] for place in data["places"]}, []
        for table in driver.find_elements(By.CSS_SELECTOR, "#verdicts table"):
            first, *titles = [
                cell.get_attribute("textContent") for cell in table.find_elements(By.CSS_SELECTOR, "thead th")
            ]
            seen.append(int(first.rpartition(" ")[2]))
            assert titles and {of[title] for title in titles} == {seen[-1]}
        assert seen == [2, 1]


@needs_browser
@pytest.mark.parametrize("width", [1400, 400])
def test_a_browser_without_programs_shows_the_verdicts(page, width):
    with browser.opened(page) as driver:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(page.as_uri())
        texts = [cell.text for cell in driver.find_elements(By.CSS_SELECTOR, "noscript td") if cell.is_displayed()]
        assert "reproduced" in texts and "not reproduced" in texts
        assert not driver.find_element(By.ID, "filters").is_displayed()
        assert driver.find_element(By.ID, "how").is_displayed()


@needs_browser
@pytest.mark.parametrize("width", [1400, 400])
def test_the_page_fits_light_and_dark(page, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    with shown(page) as driver:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        colours = set()
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            load(driver, page, "#study=fashion_mlp-1")
            root = "document.documentElement"
            wide, shown_width = driver.execute_script(f"return [{root}.scrollWidth, {root}.clientWidth]")
            assert wide <= shown_width <= width
            text = driver.find_element(By.CSS_SELECTOR, "#differences svg text")
            background = driver.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
            colours |= {(text.value_of_css_property("fill"), background)}
            whole = (
                "const [box] = document.images; box.loading = 'eager'; return box.decode().then(() => box.naturalWidth)"
            )
            assert driver.execute_script(whole) > 100
        assert len(colours) == 2


EVERY_OPTION = """
const done = arguments[0], faults = [];
const parts = ["verdicts", "differences", "quality", "power", "table", "pictures"];
(async () => {
  for (const select of document.querySelectorAll("select")) for (const option of [...select.options]) {
    const before = select.value;
    select.value = option.value;
    select.dispatchEvent(new Event("change", { bubbles: true }));
    await drawn;
    for (const part of parts) {
      const box = document.getElementById(part), way = box.querySelector(".empty button.reset");
      const shows = box.querySelector("svg [aria-label], td, img");
      if (!(shows || way)) faults.push([select.name, option.value, part]);
    }
    if (!document.querySelector("svg [aria-label], #table td, #pictures img")) faults.push([select.name, option.value]);
    select.value = before;
    select.dispatchEvent(new Event("change", { bubbles: true }));
  }
  document.querySelector("#arms input").click();
  await drawn;
  document.querySelector("#filters .reset").click();
  await drawn;
  if (document.querySelectorAll("#arms input:not(:checked)").length) faults.push("reset");
})().then(() => done(faults), (error) => done([String(error)]));
"""


@needs_browser
def test_every_option_shows_something_or_how_to_reset(page):
    with shown(page) as driver:
        driver.set_script_timeout(240)
        assert driver.execute_async_script(EVERY_OPTION) == []
        choose(driver, "dataset", "cifar10_jpeg")
        choose(driver, "network", "mlp")
        assert driver.find_element(By.ID, "nothing").is_displayed()
        driver.find_element(By.CSS_SELECTOR, "#nothing .reset").click()
        settle(driver)
        assert not driver.find_element(By.ID, "nothing").is_displayed() and labels(driver, "quality")
