"""What the rules of protocol 2 say of runs that were published under protocol 1, for docs/protocol1.md.

An analysis after the fact: no claim was registered, so p-values are not adjusted, and nothing is judged again.
"""

from collections.abc import Iterable, Iterator
from types import SimpleNamespace

import pandas as pd

from bvae.arms import ARMS
from bvae.report.judgement import Cell, Found, Judged, judge_alone
from bvae.report.typeset import to_markdown
from bvae.report.variants import RELATIVE
from bvae.report.verdicts import failures_p, verdict_of
from tools.published import Published, place_name

TASKS = {
    "reconstruction": "Squared error",
    "elbo": "ELBO",
    "classification": "Probe",
    "generation": "Generation",
    "interpolation": "Interpolation",
}
TESTS = ("matches", "outperforms")
COMPARED = [arm for arm in ARMS if arm != "vae"]  # each with the matched VAE


def cell_of(published: Published, study: str) -> Cell:
    """The runs of a published study of one place, as protocol 2 takes them."""
    table = published.read(study, "tables/runs.csv")
    [layout] = table[["layout.channels", "layout.size"]].dropna().drop_duplicates().astype(int).to_numpy().tolist()
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return Cell([{**row, "layout": dict(zip(("channels", "size"), layout, strict=True))} for row in rows])


def judged(published: Published, *studies: str) -> Iterator[tuple[dict, str, str, dict[str, Judged]]]:
    """For each study, task and arm: the first run's row, both, and what protocol 2 says by each test."""
    for study in studies:
        cell = cell_of(published, study)
        for task in TASKS:
            for arm in filter(cell.of, COMPARED):
                found = {test: judge_alone(cell, test, task, (arm, "vae")) for test in TESTS}
                yield {**cell.rows[0], "study": study}, task, arm, found


def afterwards(published: Published, *studies: str) -> str:
    """Each arm against the matched VAE: the published verdicts on the BVAE, and what protocol 2 says of all three."""
    first = {study: published.claims(study)["verdict"] for study in studies}
    lines = []
    for row, task, arm, found in judged(published, *studies):
        line = {"Task": TASKS[task], "Arm": ARMS[arm].label}
        for test in TESTS:
            before = first[row["study"]].get(f"{task}-{test}", "") if arm == "bvae" else ""
            line[f"{test.title()}, protocol 1"] = before or "–"
        line |= {f"{test.title()}, protocol 2": _said(found[test]) for test in TESTS}
        of_metric = found["matches"].found
        line["Difference [95 %]"] = _shown(task, of_metric[0])
        line["By the mixture, or on arcs"] = _shown(task, of_metric[1]) if len(of_metric) > 1 else "–"
        line["n"] = " and ".join(map(str, of_metric[0].comparison.counts))
        lines.append(line)
    return to_markdown(pd.DataFrame(lines))


def matches(published: Published, *studies: str) -> str:
    """Whether each arm matches the VAE by the rules of protocol 2, a line for each study and arm."""
    lines: dict[tuple[str, str], dict] = {}
    for row, task, arm, found in judged(published, *studies):
        start = {"Data set": place_name(row), "Arm": ARMS[arm].label}
        lines.setdefault((row["study"], arm), start)[TASKS[task]] = _said(found["matches"])
    return to_markdown(pd.DataFrame(lines.values()))


def failures(published: Published, *studies: str) -> str:
    """The arms that lost other numbers of runs than the matched VAE, by Fisher's exact test."""
    lines = []
    for study in studies:
        cell = cell_of(published, study)
        for arm in filter(cell.of, COMPARED):
            lost, runs = cell.failures((arm, "vae"))
            if lost[0] * runs[1] != lost[1] * runs[0]:
                p = failures_p(lost, runs)
                line = {"Data set": place_name(cell.rows[0]), "Arm": ARMS[arm].label}
                line |= {"Lost": f"{lost[0]} of {runs[0]}", "Lost by the VAE": f"{lost[1]} of {runs[1]}"}
                lines.append(line | {"p": f"{min(p):.2g}", "Diverges more often": verdict_of(*p)})
    return to_markdown(pd.DataFrame(lines))


def second(published: Published, study: str, test: str, task: str, arm: str = "bvae") -> SimpleNamespace:
    """What protocol 2 says of an arm against the matched VAE: `verdict`, and on what it is `differing` if it depends.

    `main` is by the judged metric, `other` by the other sampler or path, if there is one: `worse`, its 95 % interval
    `low` to `high` and the `margin` in the unit of the tables, the `verdict` by it alone, and the `comparison`.
    """
    found = judge_alone(cell_of(published, study), test, task, (arm, "vae"))
    main, *others = (_numbers(task, each) for each in found.found)
    other = others[0] if others else None
    return SimpleNamespace(verdict=found.verdict, differing=list(found.differing), main=main, other=other)


def seconds(
    published: Published, studies: Iterable[str], test: str, task: str, arm: str = "bvae"
) -> list[SimpleNamespace]:
    """What protocol 2 says of an arm in each of these studies, as of `second`."""
    return [second(published, study, test, task, arm) for study in studies]


CALLS = (afterwards, matches, failures, second, seconds)


def _said(found: Judged) -> str:
    if found.verdict == "depends":
        return f"depends on the {' and the '.join(found.differing)}"
    return found.verdict


def _shown(task: str, found: Found) -> str:
    """The difference in the unit of its margin, positive where the arm is worse."""
    numbers = _numbers(task, found)
    decimals = 1 if numbers.unit == "%" else 2
    return f"{numbers.worse:.{decimals}f} {numbers.unit} [{numbers.low:.{decimals}f}, {numbers.high:.{decimals}f}]"


def _numbers(task: str, found: Found) -> SimpleNamespace:
    comparison = found.comparison
    scale, unit = {"elbo": (1.0, "nats"), "classification": (100.0, "points")}.get(task, (1.0, ""))
    if task in RELATIVE:
        scale, unit = 100 / comparison.means[1], "%"
    ends = (comparison.difference, *comparison.interval(0.95), found.margin)
    numbers = dict(zip(("worse", "low", "high", "margin"), (scale * end for end in ends), strict=True))
    return SimpleNamespace(**numbers, unit=unit, verdict=verdict_of(*found.p), comparison=comparison)
