"""The table that explains distances: what known changes of real images cost."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from bvae.evaluation.extractors import EXTRACTORS
from bvae.evaluation.metrics._distortions import CHANGES
from bvae.report.typeset import Table
from bvae.study.runs import distances_path, expand_runs
from bvae.system.files import read_json


def references_of(row: Mapping) -> Iterator[tuple[str, str]]:
    """The names and hashes of the reference features that the distances of a run are to."""
    for by in row.get("tasks", {}).values():
        yield from by.get("references", ())


def table_of_distances(study: dict, rows: list[dict], root: Path = Path()) -> Table:
    """Fréchet distances of known changes of the test images: a line for each change, a column for each extractor."""
    lines, shown, notes = [], [], []
    extractors = [found for name, found in EXTRACTORS.items() if name in study["features"]]
    for dataset in dict.fromkeys(run["dataset"] for run in expand_runs(study)):
        found = {each.name: read_json(root / distances_path(dataset, each.name)) for each in extractors}
        for change in CHANGES:
            values = {each.metric("fd"): found[each.name]["distances"].get(change.name) for each in extractors}
            lines.append({"dataset": dataset, "change": change.name} | values)
            text = {"Data set": dataset, "Compared": change.header}
            for each in extractors:
                value = values[each.metric("fd")]
                text[each.header or f"FD {each.label}"] = "–" if value is None else f"{value:,.2f}"
            shown.append(text)
        reasons = {
            f"{dataset}, {change.header}: empty because {each['empty'][change.name]}."
            for each in found.values()
            for change in CHANGES
            if change.name in each["empty"]
        }
        notes += sorted(reasons)
        used = {name: sha256 for row in rows if row["dataset"] == dataset for name, sha256 in references_of(row)}
        notes += [
            f"{dataset}: the distances of the runs are to other features than those of this table, because another"
            f" machine trained the {each.label}."
            for each in extractors
            if used.get(each.name, found[each.name]["reference_sha256"]) != found[each.name]["reference_sha256"]
        ]
    images = sorted({(row["dataset"], row["test_images"]) for row in rows})
    notes = [
        "Fréchet distance of the test images, changed as the line says, to the test images themselves"
        f" ({', '.join(f'{name}: {count:,}' for name, count in images)}; 10,000 at most), with no model at all.",
        "Noise and blur are of pixels that are rounded to 256 levels again. One class dropped: mean over the classes."
        " The halves are of half as many images, and a distance of fewer images is larger. Ends of the pairs are drawn"
        " from the test images themselves, so their distance may be below that of training images, the floor.",
        *(f"{each.note}." for each in extractors),
        *notes,
    ]
    caption = f"{study['title'] or study['study']}: Fréchet distances of known changes of real images."
    return Table("distances", caption, pd.DataFrame(lines), pd.DataFrame(shown), 2, notes)
