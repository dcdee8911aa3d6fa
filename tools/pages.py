"""`make pages`: the pages that hold numbers, from their templates and the published results.

A template is docs/templates/<name>.md.j2. It is the only place where its page is edited. It can call what
tools/findings.py, tools/afterwards.py, tools/protocol1.py and tools/schema_tables.py offer. A sentence that interprets
numbers states its condition, and the page cannot be made when the condition no longer holds:

    {% given verdict("mnist_mlp", "elbo-matches") == "not reproduced" %}On MNIST it does not match.{% endgiven %}
"""

import math
import re
import sys
import tempfile
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from jinja2.nodes import CallBlock, Const, Node
from jinja2.parser import Parser

from bvae.errors import InputError
from bvae.report.figures._page import save_figure
from bvae.report.publication import shrink_picture
from bvae.system.files import write_text
from tools import afterwards, findings, protocol1, schema_tables
from tools.overview import draw, draw_series, overview
from tools.published import ROOT, Published

TEMPLATES = ROOT / "docs/templates"
ELSEWHERE = {"README": "README.md", "config": "config/README.md"}  # the pages that are not in docs/
SIZES = ("scaling_mnist", "scaling_fashion")  # the studies of the picture of sizes
WIDTH = 120
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
ITEM = re.compile(r"( *)([*-] |\d\d?\. )")


class Given(Extension):
    """The block `{% given condition %}text{% endgiven %}`: the text, or an error where the condition does not hold."""

    tags = {"given"}  # noqa: RUF012 (Jinja's own form)

    def parse(self, parser: Parser) -> Node:
        """The block as a call of `hold`."""
        line = next(parser.stream).lineno
        condition = parser.parse_expression()
        body = parser.parse_statements(("name:endgiven",), drop_needle=True)
        call = self.call_method("hold", [condition, Const(parser.name), Const(line)])
        return CallBlock(call, [], [], body).set_lineno(line)

    def hold(self, condition: object, name: str, line: int, caller: Callable[[], str]) -> str:
        """The text of the block. Raises InputError where the condition is not true."""
        text = caller()
        if not condition:
            said = " ".join(text.split())
            raise InputError(
                f"docs/templates/{name}, line {line}: the published results no longer say this: {said!r}. Read the"
                " results again and rewrite the sentence together with its condition."
            )
        return text


def words(number: float) -> str:
    """A small number as a word.

    >>> words(6)
    'six'
    """
    return WORDS[int(number)]


def reflow(page: str) -> str:
    """The page with the lines of its paragraphs and list items filled anew: numbers change their lengths.

    >>> print(reflow("9. One\\n10. two\\n    three"), end="")
    9. One
    10. two three
    >>> print(reflow("One\\ntwo.\\n\\n* three\\n  four\\n\\n    code\\n    more"), end="")
    One two.
    <BLANKLINE>
    * three four
    <BLANKLINE>
        code
        more
    """
    done: list[str] = []
    paragraph: list[str] = []
    code = False

    def end() -> None:
        if paragraph:
            first = paragraph[0]
            item = ITEM.match(first)
            later = " " * (len(item[0]) if item else len(first) - len(first.lstrip()))
            text = re.sub(r" (?=([-+*#>|]|\d+[.)]) )", "\0", " ".join(line.strip() for line in paragraph))
            text = re.sub(r"`[^`]+`", lambda code: code[0].replace(" ", "\0"), text)
            text = re.sub(r"(?<=\d) (?=%|nats\b|points\b)", "\0", text)  # a number stays with its unit
            indent = " " * (len(first) - len(first.lstrip()))
            filled = textwrap.wrap(
                text,
                WIDTH,
                initial_indent=indent,
                subsequent_indent=later,
                break_long_words=False,
                break_on_hyphens=False,
            )
            done.extend(line.replace("\0", " ") for line in filled)
            paragraph.clear()

    for line in page.splitlines():
        fence = line.lstrip().startswith("```")
        inside = bool(paragraph)
        listed = ITEM.match(line)
        if not code and not line.strip():
            end()
            if done and done[-1]:
                done.append("")
        elif fence or code or re.match(r" *(\||#|<|!\[|>)", line):
            end()
            done.append(line.rstrip())
            code ^= fence
        elif listed and (len(listed[1]) < 4 or inside):
            end()
            paragraph.append(line)
        elif line.startswith("    ") and not inside:
            done.append(line.rstrip())
        else:
            paragraph.append(line)
    end()
    return "\n".join(done) + "\n"


def environment(published: Published) -> Environment:
    """Jinja with everything that a template can use."""
    found = Environment(
        loader=FileSystemLoader(TEMPLATES), extensions=[Given], undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    found.filters |= {
        "fixed": lambda number, decimals=0: f"{number:.{decimals}f}",
        "signed": lambda number, decimals=0: f"{number:+.{decimals}f}",
        "thousands": lambda number: f"{number:,.0f}",
        "words": words,
    }
    of_protocol_1 = (*afterwards.CALLS, *protocol1.CALLS)
    found.globals |= {call.__name__: partial(call, published) for call in of_protocol_1}
    found.globals |= findings.calls(published) | schema_tables.CALLS
    found.globals |= {"published": published, "abs": abs, "min": min, "max": max, "round": round, "log": math.log}
    return found


def pages() -> dict[str, str]:
    """The path of each page that has a template, and the template's name."""
    names = sorted(path.name.removesuffix(".md.j2") for path in TEMPLATES.glob("*.md.j2"))
    return {ELSEWHERE.get(name, f"docs/{name}.md"): f"{name}.md.j2" for name in names}


def render(page: str, published: Published) -> str:
    """A page as its template and the published results make it."""
    name = pages()[page]
    note = f"<!-- `make pages` writes this page from docs/templates/{name}. Edit that file. -->\n\n"
    return note + reflow(environment(published).get_template(name).render())


def main(chosen: list[str]) -> None:
    """Write these pages; without names, every page and the pictures of several studies."""
    published = Published()
    for page in chosen or pages():
        write_text(ROOT / page, render(page, published))
    if not chosen:
        frame = overview(published)
        write_text(published.folder / "overview.csv", frame.to_csv(index=False, lineterminator="\n"))
        pictures = {"overview": partial(draw, frame)}
        if published.folders.keys() >= {*SIZES}:
            pictures["sizes"] = partial(draw_series, published, *SIZES)
        with tempfile.TemporaryDirectory() as folder:
            for name, drawn in pictures.items():
                save_figure(drawn, Path(folder, name))
                shrink_picture(Path(folder, f"{name}.png"), published.folder / f"{name}.png")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
