"""Figures of matplotlib as SVG inside a page: their colours follow the page's theme, their text is
text, and marks have tooltips."""

import io
import re
import xml.etree.ElementTree as ET
from typing import Any

from pipeline.report.style import EDGE, FAINT, HUES, INK, OTHER, PAPER, QUIET, SHADE

_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_TIP = "tip: "  # begins the gid of an artist with a tooltip
_PIXELS = 96  # CSS pixels per inch

# The page's variable for each colour of a figure.
VARIABLES = {
    INK: "--ink",
    QUIET: "--quiet",
    FAINT: "--line",
    EDGE: "--edge",
    SHADE: "--shade",
    PAPER: "--paper",
    OTHER: "--other",
    **{hue: f"--hue-{number}" for number, hue in enumerate(HUES)},
}


def tip(text: str) -> str:
    """The gid of an artist that shows `text` when the pointer is on it."""
    return f"{_TIP}{text}"


def to_svg(figure: Any, name: str, description: str) -> str:
    """Return the figure as an `<svg>` element of a page, described by `description` for those who
    do not see it.

    `name` begins the ids, which are otherwise the same in several figures."""
    file = io.BytesIO()
    # Without facts about the time and about matplotlib's version.
    facts = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", facecolor="none", metadata=facts)
    root = ET.fromstring(file.getvalue())

    # The style among the definitions would apply to the whole page.
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)

    for element in list(root.iter()):
        _set_id(element, name)
        _set_style(element)
        _shorten_numbers(element)
    width = figure.get_figwidth() * _PIXELS
    view = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib |= {
        "viewBox": view,
        "role": "img",
        "aria-label": description,
        "style": f"max-width: {width:.0f}px",
    }

    ET.register_namespace("", _SVG)
    text = ET.tostring(root, encoding="unicode")
    # An HTML page needs no declaration of the namespace.
    text = text.replace(f' xmlns="{_SVG}"', "")
    return re.sub(r"\s*\n\s*", " ", text)


def _set_id(element: ET.Element, name: str) -> None:
    """Put the name in front of ids that the figure refers to, and remove all others."""
    id_ = element.attrib.pop("id", "")
    if id_.startswith(_TIP):
        title = ET.Element(f"{{{_SVG}}}title")
        title.text = id_.removeprefix(_TIP)
        element.insert(0, title)
        element.set("class", "mark")
    elif element.tag != f"{{{_SVG}}}g" and id_:
        element.set("id", f"{name}-{id_}")

    if _HREF in element.attrib:
        element.set("href", f"#{name}-{element.attrib.pop(_HREF).removeprefix('#')}")
    if "clip-path" in element.attrib:
        element.set("clip-path", element.attrib["clip-path"].replace("#", f"#{name}-"))


def _set_style(element: ET.Element) -> None:
    style = element.attrib.get("style", "")
    for colour, variable in VARIABLES.items():
        style = style.replace(colour, f"var({variable})")
    style = style.replace("font-family: 'DejaVu Sans'; ", "")
    if style:
        element.set("style", style)


def _shorten_numbers(element: ET.Element) -> None:
    """Cut coordinates to hundredths of a point, which look the same."""
    for key, value in element.attrib.items():
        element.set(key, re.sub(r"(\d\.\d\d)\d+", r"\1", value))
