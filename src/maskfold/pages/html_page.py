"""Parts of a self-contained HTML page. These functions escape plain text, so that callers need not."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from maskfold.pages.style import STYLE

PHOTO_NOTICE = "This page contains photographs of people. Share it only with people who may have the data itself."
PERSON_ID_NOTICE = "This page contains ids of people. Share it only with people who may have the data itself."
# Row headers of fewer characters stay on one line.
MAX_NOWRAP = 25
# CSS pixels per inch, and the minimum scale of a figure: at this scale, labels of 8 pt are still legible. On a screen
# that is too narrow for this scale, the figure scrolls.
DPI, MIN_FIGURE_SCALE = 96, 0.75


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading. body: HTML; hint: one plain-text sentence on how to read the body, or empty."""

    title: str
    body: str
    hint: str = ""

    @property
    def anchor(self) -> str:
        """The title as an id: lower case, with hyphens."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")

    @property
    def html(self) -> str:
        hint = note(self.hint) if self.hint else ""
        return f"<section id='{self.anchor}'><h2>{escape(self.title)}</h2>{hint}{self.body}</section>"


def page(title: str, sections: Sequence[Section], notice: str = PHOTO_NOTICE) -> str:
    """A whole page: title, notice about sharing the page, table of contents, sections."""
    head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
    head += "<meta name='color-scheme' content='light dark'>"
    head += f"<title>{escape(title)}</title><style>{STYLE}</style>"
    links = "".join(f"<li><a href='#{each.anchor}'>{escape(each.title)}</a></li>" for each in sections)
    body = f"<header><h1>{escape(title)}</h1><p class='notice'>{escape(notice)}</p></header>"
    body += f"<nav aria-label='Contents'><ul>{links}</ul></nav><main>{''.join(each.html for each in sections)}</main>"
    return f"<!doctype html>\n<html lang='en'><head>{head}</head><body>{body}</body></html>\n"


def metric_name(key: str) -> str:
    """The name that tables show for a key of summary.json: "macro F1" for "macro_f1"."""
    return key.replace("_", " ").replace("f1", "F1")


def note(text: str) -> str:
    """A paragraph of explanation; text: plain text."""
    return f"<p class='note'>{escape(text)}</p>"


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """A table of plain text with row headers in the first column. numbers: align the other columns to the right."""
    columns = [_numeric_class(name, numbers and column > 0) for column, name in enumerate(header)]
    head = "".join(f"<th scope='col'{css}>{escape(name)}</th>" for name, css in zip(header, columns, strict=True))
    return html_table(caption, head, "".join(_table_row(row, numbers) for row in rows))


def html_table(caption: str, head: str, body: str) -> str:
    """A table that scrolls in its own container. caption: plain text; head: HTML <th> cells; body: HTML rows."""
    # With tabindex, the container can also be scrolled by keyboard.
    return (
        f"<div class='scroll' role='region' tabindex='0' aria-label='{escape(caption, quote=True)}'><table>"
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _table_row(row: Sequence[str], numbers: bool) -> str:
    # Short row headers stay on one line.
    css = " class='k'" if numbers and len(row[0]) < MAX_NOWRAP else ""
    cells = "".join(f"<td{_numeric_class(cell, numbers)}>{escape(cell)}</td>" for cell in row[1:])
    return f"<tr><th scope='row'{css}>{escape(row[0])}</th>{cells}</tr>"


def _numeric_class(cell: str, numeric: bool) -> str:
    """The class attribute of a right-aligned cell; a number and its interval stay on one line."""
    if not numeric:
        return ""
    return " class='v'" if cell[:1].isdigit() or cell[:1] in ("-", "+", "[") else " class='n'"


def figure(chart: Figure, alt: str) -> str:
    """A matplotlib figure as SVG. alt: the text for readers who cannot see it."""
    buffer = io.BytesIO()
    # Without a date and with fixed element ids, the same results give the same bytes.
    with rc_context({"svg.hashsalt": "maskfold"}):
        chart.savefig(buffer, format="svg", metadata={"Date": None})
    width = round(chart.get_figwidth() * DPI)
    style = f"width:{width}px;min-width:{round(MIN_FIGURE_SCALE * width)}px"
    return (
        f"<div class='scroll chart' role='region' tabindex='0' aria-label='{escape(alt, quote=True)}'>"
        f"{_image('svg+xml', buffer.getvalue(), alt, style)}</div>"
    )


def photo(pixels: np.ndarray, alt: str) -> str:
    """A photo, uint8 RGB [H, W, 3], as a JPEG."""
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return _image("jpeg", encoded.tobytes(), alt)


def _image(kind: str, content: bytes, alt: str, style: str = "") -> str:
    css = f" style='{style}'" if style else ""
    encoded = base64.b64encode(content).decode()
    return f"<img alt='{escape(alt, quote=True)}'{css} src='data:image/{kind};base64,{encoded}'>"
