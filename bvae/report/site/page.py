"""The results page, joined: one HTML file with its data, its style and its programs, which asks no network."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.report.figures import FIGURES
from bvae.report.site.numbers import Place, could_show, differences, means, metric_row, metrics_of, places_of
from bvae.report.site.publications import Publication, read_publications
from bvae.report.verdicts import MINIMUM_SEEDS
from bvae.study.runs import GROUP
from bvae.system.files import write_text

HERE = Path(__file__).parent
PROGRAMS = ("vega", "vega-lite", "vega-embed")  # in the order in which they are loaded
OF_STUDIES = {  # pictures of a whole study, which are not among FIGURES
    "sizes": (
        "ELBO on test images against parameters with 95 % bands over seeds, and the 95 % interval of the share of a"
        " VAE's parameters that a tied arm needs for the same ELBO."
    ),
    "tuning": "ELBO of held-out training images by learning rate and arm.",
}
CLAIM = ("text", "arms", "metric", "verdict", "difference", "interval_95_low", "interval_95_high", "margin", "p_holm")


def write_site(published: Path, output: Path) -> None:
    """Write the results page of all publications in `published`, such as results/published, to the file `output`.

    Pictures are not copied: the page links to those in `published` by relative paths. Equal inputs give equal bytes.
    Raises InputError when nothing is published there, or Altair is not installed.
    """
    try:
        import altair  # noqa: F401
    except ImportError:
        raise InputError("altair is not installed, and the results page needs it. Run: pip install altair") from None
    write_text(output, render(page_data(read_publications(published), output.parent)))


def page_data(publications: Sequence[Publication], folder: Path) -> dict:
    """All that the page shows. Links are relative to `folder`, which the page will be in."""
    places, metrics = places_of(publications), metrics_of(publications)
    arms = [arm for arm in ARMS if any(row["arm"] == arm for found in publications for row in found.runs)]
    return {
        "arms": [_arm_row(name) for name in arms],
        "metrics": [metric_row(metric) for metric in metrics],
        "places": [place.row() for place in places],
        "means": [row for place in places for row in means(place, metrics)],
        "differences": [row for place in places for row in differences(place, metrics)],
        "power": [row for place in places for row in could_show(place)],
        "runs": [row for place in places for row in _runs(place, [metric.name for metric in metrics])],
        "claims": [row for place in places for row in _claims(place)],
        "publications": [_publication_row(found, folder) for found in publications],
        "pictures": [row for found in publications for row in _pictures(found, folder)],
    }


def render(data: dict) -> str:
    """The page of `page_data`."""
    from jinja2 import Environment, StrictUndefined

    from bvae.report.site.charts import charts

    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(_text("page.html"))
    return template.render(
        style=_text("page.css"),
        programs=[_program(name) for name in PROGRAMS],
        data=_json({"tables": {name: _columns(rows) for name, rows in data.items()}, "charts": charts()}),
        program=_text("page.js"),
        verdicts=verdict_tables(data),
        publications=data["publications"],
        studies=len({row["study"] for row in data["publications"]}),
        runs=len(data["runs"]),
        minimum=MINIMUM_SEEDS,
    )


def verdict_tables(data: dict) -> list[dict]:
    """The verdict on each claim in each place with both arms of a claim, for a reader without JavaScript.

    A table for each `protocol`, the newest first, as each has its own claims: `titles` are of the places, `rows` pairs
    of a claim's text and its verdicts in their order.
    """
    judged = {row["place"] for row in data["claims"] if row["n"] and " against " in row["arms"]}
    found = {(row["text"], row["place"]): row["verdict"] if row["n"] else "no runs" for row in data["claims"]}
    tables = []
    for protocol in sorted({place["protocol"] for place in data["places"]}, reverse=True):
        places = [place for place in data["places"] if place["id"] in judged and place["protocol"] == protocol]
        ids = [place["id"] for place in places]
        texts = dict.fromkeys(text for text, place in found if place in ids)
        rows = [(text, [found.get((text, place), "") for place in ids]) for text in texts]
        tables += [{"protocol": protocol, "titles": [place["title"] for place in places], "rows": rows}] if ids else []
    return tables


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _program(name: str) -> str:
    lines = _text(f"vendor/{name}.min.js").splitlines()
    kept = "\n".join(line for line in lines if not line.startswith("//# sourceMappingURL"))
    return kept.replace("</script", "<\\/script")


def _columns(rows: Sequence[dict]) -> dict:
    """A table whose columns are named once and not in every row, which is half of the page."""
    names = list(rows[0]) if rows else []
    return {"columns": names, "rows": [[row[name] for name in names] for row in rows]}


def _json(data: dict) -> str:
    """JSON that can be part of a page: "<" begins no tag there."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _arm_row(name: str) -> dict:
    from bvae.report.site.charts import SHAPES

    arm = ARMS[name]
    looks = {"colour": arm.colour, "sign": SHAPES[arm.marker][1], "aside": arm.aside}
    return {"name": name, "label": arm.label} | looks


def _runs(place: Place, metrics: Sequence[str]) -> list[dict]:
    return [
        {"place": place.id} | {key: row.get(key) for key in ("arm", "seed", "status", "parameters", *metrics)}
        for row in place.cell.rows
    ]


def _claims(place: Place) -> list[dict]:
    """Claims of a place by either protocol; `n` are the seeds of the first arm."""
    rows = [row for row in place.publication.claims if place.key.items() <= row.items()]
    return [
        {"place": place.id, "n": row.get("n", row.get("n_1"))}
        | {key: row.get(key) for key in CLAIM}
        | {"note": row.get("reason") or row.get("note") or ""}
        for row in rows
    ]


def _publication_row(publication: Publication, folder: Path) -> dict:
    facts, runs = publication.manifest["provenance"], publication.runs
    return {
        "study": publication.folder.name,
        "title": publication.title,
        "protocol": publication.protocol,
        "tuning": bool(publication.config.get("tuning")),
        "runs": facts.get("runs", len(runs)),
        "diverged": facts.get("diverged", sum(row["status"] != "finished" for row in runs)),
        "seeds": len(facts.get("seeds", {row["seed"] for row in runs})),
        "commit": facts.get("commit"),
        "id": facts.get("id"),
        "link": _link(publication.folder, folder),
    }


def _pictures(publication: Publication, folder: Path) -> list[dict]:
    return [
        {"study": publication.folder.name, "link": _link(path, folder)} | _kind(path, publication)
        for path in publication.pictures
    ]


def _kind(path: Path, publication: Publication) -> dict:
    """What a picture shows, and of which place where the study has several."""
    name = "-".join(path.relative_to(publication.folder).with_suffix("").parts[1:])  # <kind>-<place>, or the reverse
    kind = next((kind for kind in FIGURES if kind in (path.stem, path.stem.partition("-")[0])), path.stem)
    other = OF_STUDIES.get(kind, kind.replace("_", " ").capitalize() + ".")
    caption = FIGURES[kind].caption if kind in FIGURES else other
    keys = dict.fromkeys(tuple(row[key] for key in GROUP) for row in publication.runs)
    places = (name.removeprefix(f"{kind}-"), name.removesuffix(f"-{kind}"))
    of = [key for key in keys if f"{key[1]}-{key[0]}-z{key[2]}" in places]
    said = ", ".join(map(str, of[0])) if len(keys) > 1 and of else ""
    return {"kind": kind, "caption": caption, "of": said}


def _link(path: Path, folder: Path) -> str:
    from urllib.parse import quote

    return quote(Path(os.path.relpath(path, folder)).as_posix())
