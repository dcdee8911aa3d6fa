"""How the results page draws: specifications of Vega-Lite, made with Altair, without data.

Each is a panel for every study. The page gives it the rows, the number of columns and the width of a panel.
"""

import altair as alt

from bvae.arms import ARMS

STAR = "M0,-1L.26,-.36L.95,-.31L.42,.14L.59,.81L0,.45L-.59,.81L-.42,.14L-.95,-.31L-.26,-.36Z"
PENTAGON = "M0,-.9L.86,-.28L.53,.73L-.53,.73L-.86,-.28Z"
HEXAGON = "M0,-.9L.78,-.45L.78,.45L0,.9L-.78,.45L-.78,-.45Z"
SALTIRE = "M-.8,-.5L-.5,-.8L0,-.3L.5,-.8L.8,-.5L.3,0L.8,.5L.5,.8L0,.3L-.5,.8L-.8,.5L-.3,0Z"
SHAPES = {  # of Matplotlib's markers: the shape in Vega, and a letter like it
    "o": ("circle", "●"),
    "s": ("square", "■"),
    "^": ("triangle-up", "▲"),
    "D": ("diamond", "◆"),
    "v": ("triangle-down", "▼"),
    "<": ("triangle-left", "◀"),
    ">": ("triangle-right", "▶"),
    "P": ("cross", "✚"),
    "X": (SALTIRE, "✖"),
    "*": (STAR, "★"),
    "p": (PENTAGON, "⬟"),
    "h": (HEXAGON, "⬢"),
}
ROWS = alt.NamedData("rows")
SEEN = {"description": alt.Description("label:N"), "tooltip": alt.Tooltip("label:N")}
PANEL_HEIGHT = 130  # pixels


def charts() -> dict[str, dict]:
    """The specification of each chart of the page by its name: differences, quality and power."""
    return {name: draw().to_dict(context={"pre_transform": False}) for name, draw in DRAWN.items()}


def _looks() -> dict:
    """Colour and shape of every arm, as in the figures: colour alone never tells arms apart."""
    names = list(ARMS)
    colours = alt.Scale(domain=names, range=[ARMS[name].colour for name in names])
    shapes = alt.Scale(domain=names, range=[SHAPES[ARMS[name].marker][0] for name in names])
    return {
        "color": alt.Color("arm:N", scale=colours, legend=None),
        "shape": alt.Shape("arm:N", scale=shapes, legend=None),
    }


def _panels(*layers: alt.Chart) -> alt.FacetChart:
    """A panel for each study, in the order of the studies."""
    header = alt.Header(title=None, labelAnchor="start", labelFontSize=12, labelFontWeight="bold", labelPadding=4)
    facet = alt.Facet("panel:N", header=header, sort=alt.EncodingSortField("place", op="min", order="ascending"))
    return alt.layer(*layers, data=ROWS).facet(facet=facet, columns=3, bounds="flush").resolve_axis(x="independent")


def differences() -> alt.FacetChart:
    """Each arm's difference from the matched VAE, its interval, and the margin as a band around 0."""
    arm = alt.Y("name:N", title=None, sort=alt.EncodingSortField("order", op="min"), axis=alt.Axis(domain=False))
    x = alt.Axis(title=None, tickCount=5, grid=True)
    looks = _looks()
    base = alt.Chart()
    band = base.mark_rect(opacity=0.16, color="#808080", aria=False).encode(
        x=alt.X("min(band_low):Q", axis=x), x2="max(band_high)"
    )
    zero = base.mark_rule(color="#808080", aria=False).encode(x=alt.datum(0))
    interval = base.mark_rule(strokeWidth=2, aria=False).encode(
        x=alt.X("low:Q"), x2="high", y=arm, color=looks["color"]
    )
    point = base.mark_point(filled=True, opacity=1, size=75).encode(x=alt.X("value:Q"), y=arm, **looks, **SEEN)
    panels = _panels(band.transform_filter("isValid(datum.band_low)"), zero, interval, point)
    panels.spec.height = {"step": 24}
    return panels.resolve_scale(y="independent")


def quality() -> alt.FacetChart:
    """A metric against the number of parameters: each seed, the mean of each arm and its interval."""
    x = alt.X(
        "parameters:Q",
        scale=alt.Scale(type="log", nice=False, padding=26),
        axis=alt.Axis(title=None, format=".3~s", tickCount=4, grid=False, labelOverlap=True),
    )
    scale, axis = alt.Scale(zero=False, padding=8), alt.Axis(title=None, tickCount=4, format=".5~g")
    looks = _looks()
    aside = {"expr": "datum.aside"}  # pixels: arms of nearly as many parameters are drawn side by side
    mean, seed = (alt.Chart().transform_filter(f"datum.kind == '{kind}'") for kind in ("mean", "seed"))
    seeds = seed.mark_point(size=14, opacity=0.45, xOffset=aside, aria=False).encode(
        x=x, y=alt.Y("value:Q", scale=scale, axis=axis), color=looks["color"], tooltip=SEEN["tooltip"]
    )
    interval = mean.mark_rule(strokeWidth=2, xOffset=aside, aria=False).encode(
        x=x, y=alt.Y("low:Q", scale=scale), y2="high", color=looks["color"]
    )
    point = mean.mark_point(filled=True, opacity=1, size=75, xOffset=aside).encode(
        x=x, y=alt.Y("value:Q", scale=scale), **looks, **SEEN
    )
    panels = _panels(seeds, interval, point)
    panels.spec.height = PANEL_HEIGHT
    return panels.resolve_scale(y="independent")


def power() -> alt.FacetChart:
    """The smallest margin that a number of seeds could have shown, as a share of the margin; the line at 1 is it."""
    x = alt.X("seeds:Q", scale=alt.Scale(zero=False, padding=8), axis=alt.Axis(title=None, tickCount=6, grid=False))
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(type="log", nice=False, padding=8),
        axis=alt.Axis(title=None, tickCount=4, format="~g"),
    )
    looks = _looks()
    base = alt.Chart()
    line = base.mark_line(strokeWidth=1.5, aria=False).encode(x=x, y=y, color=looks["color"])
    point = base.mark_point(filled=True, opacity=1, size=45).encode(x=x, y=y, **looks, **SEEN)
    margin = base.mark_rule(strokeDash=[5, 3], strokeWidth=1.5, color="#808080", aria=False).encode(y=alt.datum(1))
    panels = _panels(margin, line, point)
    panels.spec.height = PANEL_HEIGHT
    return panels


DRAWN = {"differences": differences, "quality": quality, "power": power}
