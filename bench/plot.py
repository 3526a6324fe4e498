"""The picture of a first-packet run: every sample a dot, medians as bars, time on a logarithmic axis."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.first_packet import BARE, KEYED, KEYLESS, TITLES

_PANELS = (KEYED, KEYLESS, BARE)
_COLOURS = {"oe": "#0072b2", "hold": "#d55e00", "quick": "#e69f00"}
_OTHER = "#666666"
_SPREAD = 0.12
"""How far dots of one row lie from its middle, so that they do not hide each other."""


def draw(document: dict[str, Any], path: Path) -> None:
    """Write the picture; the suffix of `path` says of which kind."""
    mpl.rcParams["svg.hashsalt"] = "oe"  # the same data, the same file
    figure = Figure(figsize=(8.5, 4.6), layout="constrained")
    panels = figure.subplots(len(_PANELS), 1, sharex=True)
    for axes, what in zip(panels, _PANELS, strict=True):
        _panel(axes, what, [row for row in document["rows"] if row["what"] == what])
    panels[0].set_xscale("log")
    panels[0].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panels[-1].set_xlabel(
        f"milliseconds until connected, logarithmic ({document['rival']}, Linux {document['kernel']})"
    )
    figure.savefig(path, dpi=130)


def _panel(axes: Axes, what: str, rows: list[dict[str, Any]]) -> None:
    axes.set_title(what, loc="left", fontsize=10)
    axes.set_yticks(range(len(rows)), [TITLES[row["contender"]] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x", which="major", alpha=0.3)
    for height, row in enumerate(rows):
        colour = _COLOURS.get(row["contender"], _OTHER)
        heights = [height + _SPREAD * (number % 3 - 1) for number in range(len(row["samples"]))]
        axes.plot(row["samples"], heights, "o", color=colour, markersize=4, alpha=0.55, markeredgewidth=0)
        axes.vlines(row["median"], height - 0.32, height + 0.32, color=colour, linewidth=2)
        axes.annotate(_label(row), (1.01, height), xycoords=("axes fraction", "data"), va="center", fontsize=8)


def _label(row: dict[str, Any]) -> str:
    median = f"{row['median']:.1f}" if row["median"] < 100 else f"{row['median']:.0f}"
    lost = f", {row['lost']} lost in {row['count']}" if row["what"] != BARE else ""
    return f"{median} ms{lost}"
