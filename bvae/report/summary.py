"""What a study has found so far, as plain text: `python -m bvae summary config/quick.yaml`.

It reads results and writes nothing. Numbers, their formats and the id to cite are those of the study's tables.
"""

import shlex
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from bvae.arms import ARMS
from bvae.errors import InputError
from bvae.evaluation.extractors import EXTRACTORS
from bvae.evaluation.metrics import Metric
from bvae.report.made_from import FORMATS, Plan, inputs_of, results_of
from bvae.report.outdated import outdated
from bvae.report.status import ENDED, STATES, status_of_runs
from bvae.report.tables import TABLE1, cell, count_of_seeds, summarise
from bvae.study.runs import GROUP, made_from_path, publication, run_name, study_folder
from bvae.system.files import read_json

COMMANDS = {"config/quick.yaml": "make quick", "config/mnist.yaml": "make mnist"}  # others are run by Snakemake
VERDICTS = ("reproduced", "partly", "not reproduced", "depends", "undecided", "inconclusive", "not judged")
WIDTH = 120  # of the text where there is no terminal
LABEL = 8  # characters, of what is named at the foot
FD = [f"{extractor.metric('fd')}_samples" for extractor in EXTRACTORS.values()]
COLUMNS = [
    column
    for column in TABLE1
    if column.heading and column.name in ("parameters", "reconstruction", "elbo", *FD, "probe_accuracy")
]


def summarise_study(study: dict, config: Path, root: Path = Path(), *, width: int | None = None) -> str:
    """The runs of a checked study below `root`, its numbers so far, and what to do next, as text.

    `config` is the study's file, for the commands. Text takes up to `width` columns, by default those of the terminal;
    only commands and paths are left whole. Runs that are outdated do not count, and tables that are outdated are not
    cited.
    """
    plan = Plan(study, root)
    plan.contents.kept = None  # hashes that are kept are used, but not written
    made = [result for result in results_of(plan) if result.path.startswith("results/")]  # a data set is not a result
    to_make = outdated(plan, made, known_only=True)
    ended, runs = _runs(plan, to_make)
    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    rows = [plan.contents.facts(plan.results[run_name(run)]) | {"recipe": run["recipe"]} for run in ended]
    parts = [_fold(runs, width, "  ")]
    if not study["tuning"]:
        places = [{key: group[key] for key in GROUP} for group in plan.groups]  # what arms are compared within
        parts += [_table(plan, place, rows, width) for place in places if _of(rows, place)]
    return "\n\n".join([*parts, _foot(_found(plan, rows, to_make), _next(plan, config, to_make), width)])


def _fold(text: str, width: int, indent: str, first: str = "") -> str:
    """Text of up to `width` columns, its later lines indented; no word is broken."""
    return textwrap.fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _foot(found: Sequence[tuple[str, str]], steps: Sequence[tuple[str, str]], width: int) -> str:
    """What there is, each text after its label; then the steps, each as a command and its reason.

    Where that is too wide, a label and a command each have a line of their own.
    """
    longest = max(len(command) for command, _ in steps)
    told = [f"{command:{longest}}  {why}" for command, why in steps]
    labelled = [*found, *(("" if i else "next", text) for i, text in enumerate(told))]
    lines = [f"{label:{LABEL}}  {text}" for label, text in labelled]
    if max(map(len, lines)) <= width:
        return "\n".join(lines)
    lines = []
    for label, text in found:
        lines += [label] if label else []
        lines.append(_fold(text.strip(), width, "    ", "  "))
    lines.append("next")
    for command, why in steps:
        lines += [f"  {command}", _fold(why, width, "    ", "    ")]
    return "\n".join(lines)


def _runs(plan: Plan, to_make: Mapping[str, str]) -> tuple[list[dict], str]:
    """The runs that have ended and are not outdated, and a line on the states of all runs."""
    ended, counts = [], Counter[str]()
    for run, found in zip(plan.runs, status_of_runs(plan, to_make), strict=True):
        counts[found.state] += 1
        if found.state in ENDED:
            ended.append(run)
    said = [f"{len(ended)} of {len(plan.runs)} runs done", f"{counts['diverged'] or 'none'} diverged"]
    others = [state for state in STATES if state not in ENDED and counts[state]]
    return ended, f"{plan.study['study']}: {', '.join([*said, *(f'{counts[state]} {state}' for state in others)])}"


def _of(rows: Sequence[dict], place: dict) -> list[dict]:
    return [row for row in rows if place.items() <= row.items()]


# --- The table of arms ------------------------------------------------------------------------------------------------


def _table(plan: Plan, place: dict, rows: Sequence[dict], width: int) -> str:
    """The arms of a group: a few columns of Table 1, of the runs that have ended."""
    frame = summarise(_of(rows, place), COLUMNS, [*GROUP, "arm"])
    shown: list[Metric] = [column for column in COLUMNS if column.name in frame]
    wanted = Counter(run["arm"] for run in plan.runs if place.items() <= run.items())
    lines, counts = [], []
    for row in frame.to_dict("records"):
        due = wanted[row["arm"]] - row["n"] - row["diverged"]
        counts.append(count_of_seeds(row) + (f" of {wanted[row['arm']]}" if due else ""))
        lines.append({"arm": ARMS[row["arm"]].label, "n": counts[-1]})
        lines[-1] |= {str(column.heading): cell(row, column, "–") for column in shown}
    head = f"{place['dataset']}, {place['recipe']}, {place['latent_dim']} latents; mean ± standard deviation over seeds"
    if len(set(counts)) == 1:
        head += f", n = {counts[0]}"
        for line in lines:
            del line["n"]
    return f"{_fold(head, width, '  ')}\n\n{align(lines, width)}"


def align(lines: Sequence[Mapping[str, str]], width: int) -> str:
    """Texts by their headings as columns, the first to the left, the others to the right.

    Where that is wider than `width`, headings take several lines, and there are no spaces around ±. Where even that is
    too wide, each value has a line of its own.

    >>> print(align([{"arm": "VAE", "Mean ELBO": "-1.5 ± 0.1"}, {"arm": "BVAE", "Mean ELBO": "–"}], 80))
    arm    Mean ELBO
    VAE   -1.5 ± 0.1
    BVAE           –
    >>> print(align([{"arm": "VAE", "Mean ELBO": "-1.5 ± 0.1"}, {"arm": "BVAE", "Mean ELBO": "–"}], 15))
              Mean
    arm       ELBO
    VAE   -1.5±0.1
    BVAE         –
    >>> print(align([{"arm": "VAE", "Mean ELBO": "-1.5 ± 0.1"}, {"arm": "BVAE", "Mean ELBO": "–"}], 12))
    VAE
      Mean ELBO  -1.5 ± 0.1
    BVAE
      Mean ELBO  –
    """
    headings = list(lines[0])
    cells = [[line[heading] for heading in headings] for line in lines]
    text = _columns([[heading] for heading in headings], cells)
    if max(map(len, text)) > width:
        cells = [[value.replace(" ± ", "±") for value in line] for line in cells]
        wrapped = []
        for heading, column in zip(headings, zip(*cells, strict=True), strict=True):
            words = [*heading.split(), *column]
            wrapped.append(textwrap.wrap(heading, max(map(len, words))))
        text = _columns(wrapped, cells)
    if max(map(len, text)) > width:
        name, *others = headings
        longest = max(map(len, others))
        text = []
        for line in lines:
            text += [line[name], *(f"  {heading:{longest}}  {line[heading]}" for heading in others)]
    return "\n".join(text)


def _columns(headings: Sequence[Sequence[str]], cells: Sequence[Sequence[str]]) -> list[str]:
    height = max(map(len, headings))
    heads = zip(*([""] * (height - len(heading)) + list(heading) for heading in headings), strict=True)
    lines = [*heads, *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (
        [f"{first:{widths[0]}}", *(f"{value:>{size}}" for value, size in zip(rest, widths[1:], strict=True))]
        for first, *rest in lines
    )
    return ["  ".join(line).rstrip() for line in padded]


# --- What there is ----------------------------------------------------------------------------------------------------


def _found(plan: Plan, rows: Sequence[dict], to_make: Mapping[str, str]) -> list[tuple[str, str]]:
    """Verdicts or rates, the id to cite, and where the files are, each with its label."""
    study, folder = plan.study, study_folder(plan.study)
    rule, name = ("tuning", "tuning") if study["tuning"] else ("table", "tables/table1")
    waits = "after all runs" if len(rows) < len(plan.runs) else "not made from these results yet: run the next command"
    found = []
    if study["tuning"]:
        found += [("rates", line) for line in ([waits] if _waits(plan, rule, to_make) else _rates(rows))]
    else:
        found += [("claims", waits if _waits(plan, "claims", to_make) else _verdicts(plan))]
    if _waits(plan, rule, to_make):
        found.append(("tables", waits))
    else:
        more = ", ".join(f".{suffix}" for suffix in FORMATS if suffix != "csv")
        facts = read_json(plan.contents.root / folder / f"{name}.json")["provenance"]
        found += [("cite", f"{Path(name).name} of {facts['id']}"), ("tables", f"{folder / name}.csv ({more})")]
        found += [] if study["tuning"] else [("figures", str(folder / "figures"))]
        found += [("report", str(folder / "report.html"))] if _has_report(plan, to_make) else []
    return [(label if label != before else "", text) for (before, _), (label, text) in pairwise([("", ""), *found])]


def _waits(plan: Plan, rule: str, to_make: Mapping[str, str]) -> bool:
    """Whether what a rule makes is missing or outdated, or made from such results."""
    return any(path in to_make for path in (*inputs_of(plan, rule), made_from_path(plan.study, rule)))


def _has_report(plan: Plan, to_make: Mapping[str, str]) -> bool:
    """Whether there is a report that is not older than anything in it, none of which is outdated."""
    folder = plan.contents.root / study_folder(plan.study)
    report, made = folder / "report.html", [path.stat().st_mtime for path in folder.glob("made_from/**/*.json")]
    current = not any(path.startswith(study_folder(plan.study).as_posix()) for path in to_make)
    return current and report.exists() and report.stat().st_mtime >= max(made, default=0)


def _verdicts(plan: Plan) -> str:
    """How many claims have each verdict."""
    folder = study_folder(plan.study)
    rows = read_json(plan.contents.root / folder / "claims.json")["rows"]
    counts = Counter(row["verdict"] for row in rows)
    known = [verdict for verdict in dict.fromkeys((*VERDICTS, *counts)) if counts[verdict]]
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in known)
    return f"{said or 'none registered'}: {folder / 'claims.md'}"


def _rates(rows: Sequence[dict]) -> list[str]:
    """The learning rates that a finished study that tunes chooses, or why it chooses none."""
    from bvae.report.rates import choose, group_runs, to_do  # with matplotlib

    try:
        groups = group_runs(rows)
    except InputError as error:
        return [f"none chosen: {error}"]
    lines = []
    for group in groups:
        lines += [group.name, *(f"  {line}" for line in to_do(group, {a: choose(g) for a, g in group.arms.items()}))]
    return lines


def _next(plan: Plan, config: Path, to_make: Mapping[str, str]) -> list[tuple[str, str]]:
    """What to do next, each as a command and its reason."""
    study, file = plan.study, shlex.quote(config.as_posix())
    run = f"snakemake --configfile {file}"
    steps = []
    if to_make:
        steps.append((COMMANDS.get(config.as_posix(), run), "goes on where the study is"))
        steps.append((f"python -m bvae status {file}", "how far each run is"))
    else:
        report = study_folder(study) / "report.html"
        if not _has_report(plan, to_make):
            by_make = config == Path("config") / f"{study['study']}.yaml"
            make = f"make report STUDY={study['study']}" if by_make else f"{run} --report {report}"
            steps.append((make, "all tables and figures on one page"))
        if config.as_posix() == "config/quick.yaml":
            steps.append((COMMANDS["config/mnist.yaml"], "the same with real MNIST"))
        elif not (plan.contents.root / publication(study)).exists():
            steps.append((f"{run} -- publish", "for others to cite"))
    steps.append((f"python -m bvae summary {file}", "shows this again"))
    return steps
