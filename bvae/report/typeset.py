"""A table as files: csv and json at full precision, tex (booktabs) and html as printed."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import bvae
from bvae.system.files import write_json, write_text

if TYPE_CHECKING:  # training writes a model card, and does without pandas
    import pandas as pd

HTML_STYLES = [
    {"selector": "", "props": "border-collapse: collapse; font: 14px sans-serif"},
    {"selector": "caption", "props": "text-align: left; font-weight: bold; padding: 6px 0"},
    {"selector": "th, td", "props": "padding: 4px 10px; border-bottom: 1px solid #ddd; text-align: left"},
    {"selector": "thead th", "props": "border-bottom: 2px solid #444; vertical-align: bottom"},
]
SHORT = ("Data set", "Recipe", "Arm", "Arms", "Verdict")  # columns whose words stay on a line
WHOLE = [{"selector": "", "props": "white-space: nowrap"}]
SENTENCE = [{"selector": "", "props": "min-width: 20em"}]
NOTE = [{"selector": "", "props": "text-align: left; white-space: normal; min-width: 16em"}]
NUMBER = [{"selector": "", "props": "text-align: right; white-space: nowrap"}]


@dataclass(frozen=True)
class Table:
    """One table: `frame` at full precision and `text` as it is printed, whose first `words` columns are no numbers."""

    name: str  # of its files, without suffix
    caption: str
    frame: "pd.DataFrame"
    text: "pd.DataFrame"
    words: int
    notes: Sequence[str] = field(default_factory=list)


def write_table(table: Table, folder: Path, facts: dict) -> None:
    """Write `<folder>/<name>.{csv,tex,html,json}`; `facts` are the provenance."""
    write_text(folder / f"{table.name}.csv", table.frame.to_csv(index=False, lineterminator="\n"))
    write_text(folder / f"{table.name}.tex", to_latex(table, facts))
    write_text(folder / f"{table.name}.html", to_html(table, facts))
    records = json.loads(table.frame.to_json(orient="records", double_precision=15))
    write_json(folder / f"{table.name}.json", {"provenance": facts, "notes": list(table.notes), "rows": records})


LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "–": "--"}
    | {"±": r"$\pm$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "†": r"$\dagger$"}
)


def latex(value: object) -> str:
    """A text for LaTeX, on one line.

    >>> latex("50 % of a_b")
    '50 \\\\% of a\\\\_b'
    """
    return " ".join(str(value).splitlines()).translate(LATEX)


def html_text(value: object) -> str:
    """A text for a page, where it is no tag."""
    return html.escape(str(value), quote=False)


def markdown(value: object) -> str:
    """A text for Markdown, on one line, where it is no markup and no cell's end.

    >>> markdown("a_b <i>")
    'a\\\\_b \\\\<i\\\\>'
    """
    return re.sub(r"([\\`*_{}\[\]<>#|&~!$])", r"\\\1", " ".join(str(value).splitlines()))


def to_latex(table: Table, facts: dict) -> str:
    """The table for booktabs, its caption and notes as comments, to be copied; a data set is named once in a row."""
    shown = table.text.map(latex).rename(columns=latex)
    if "Data set" in shown:
        shown["Data set"] = shown["Data set"].mask(shown["Data set"] == shown["Data set"].shift(), "")
    columns = "l" * table.words + "r" * (len(shown.columns) - table.words)
    body = shown.style.hide(axis="index").to_latex(hrules=True, column_format=columns)
    head = f"% {facts['id']}: bvae {bvae.__version__}, commit {facts['commit']}, config {facts['config_sha256'][:12]}"
    foot = "".join(f"% {latex(note)}\n" for note in table.notes)
    return f"{head}\n% \\usepackage{{booktabs}}. Caption: {latex(table.caption)}\n{body}{foot}"


def to_html(table: Table, facts: dict) -> str:
    """A page with the table and its notes; the ids in it are fixed, so that equal tables are equal files."""
    shown = table.text.map(html_text).rename(columns=html_text)
    style = (
        shown.style.hide(axis="index")
        .set_uuid(f"{facts['study']}-{table.name}")
        .set_caption(html_text(table.caption))
        .set_table_styles(HTML_STYLES)
        .set_table_styles(dict.fromkeys(shown.columns[table.words :], NUMBER), overwrite=False)
        .set_table_styles(dict.fromkeys(shown.columns.intersection(SHORT), WHOLE), overwrite=False)
        .set_table_styles(dict.fromkeys(shown.columns.intersection(["Claim"]), SENTENCE), overwrite=False)
        .set_table_styles(dict.fromkeys(shown.columns.intersection(["Note"]), NOTE), overwrite=False)
        .to_html(doctype_html=True)
    )
    notes = [*table.notes, f"To cite: {table.name} of {facts['id']}."]
    listed = "".join(f"<p>{html_text(note)}</p>" for note in notes)
    foot = f'<div style="font: 12px sans-serif; max-width: 60em; color: #333">{listed}</div>'
    return style.replace("</body>", f"{foot}\n</body>")


def number(row: Mapping, name: str, form: str = ".4g") -> str:
    """A number of a row as it is printed; empty where the row has none."""
    value = row.get(name)
    return "" if value is None or value != value else f"{value:{form}}"


def interval(row: Mapping, name: str, form: str = ".4g") -> str:
    """The two ends `<name>_low` and `<name>_high` of a row as they are printed; empty where it has none.

    >>> interval({"interval_95_low": -1.0, "interval_95_high": 2.5}, "interval_95")
    '[-1, 2.5]'
    """
    ends = [number(row, f"{name}_{end}", form) for end in ("low", "high")]
    return f"[{', '.join(ends)}]" if all(ends) else ""


def to_markdown(text: "pd.DataFrame") -> str:
    """A table in GitHub's form, of texts that may have markup of their own, but no end of a cell."""
    cells = text.map(_cell).rename(columns=_cell)
    lines = [list(cells), ["---"] * cells.shape[1], *cells.values.tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.splitlines()))
