"""Pieces of an HTML page that holds all it shows. Text is escaped here, once."""

import base64
import io
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np
from matplotlib.figure import Figure

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1180px;margin:2rem auto;padding:0 1.5rem}
h1{font-size:1.6rem;margin:0}
h2{font-size:1.15rem;margin:2.4rem 0 .6rem;border-bottom:1px solid #ccc}
.score{font-size:2.2rem;font-weight:600;margin:.4rem 0}
.note{color:#555;max-width:60rem}
h1,h2,p,li,td{overflow-wrap:anywhere}
img{max-width:100%}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid #eee;vertical-align:top}
td.n,th.n,td.v,th.v{text-align:right}
.v,.k{white-space:nowrap}
.row{display:flex;flex-wrap:wrap;gap:1rem;align-items:start}
.row table{margin-right:2rem}
figure{margin:0;width:150px;font-size:12px;line-height:1.35}
figure img{width:150px;display:block}
figure.pair{width:280px;margin-bottom:.6rem}
figure.pair img{width:138px;display:inline-block;margin-right:2px}
.changed td{font-weight:600}
code{font-size:.9em;overflow-wrap:anywhere}
"""


# Letters of a name that is not broken.
SHORT = 25


def page(title: str, sections: Sequence[str]) -> str:
    """A whole page of sections that are HTML already."""
    head = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html>\n<html lang='en'><head>{head}</head><body>{''.join(sections)}</body></html>\n"


def section(title: str, body: str) -> str:
    """A heading and what is under it."""
    return f"<h2>{escape(title)}</h2>{body}"


def note(words: str) -> str:
    """A sentence in a quieter voice."""
    return f"<p class='note'>{escape(words)}</p>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """The first column to the left, `numbers` to the right."""

    def cells(values: Sequence[str], kind: str) -> str:
        def side(value: str) -> str:
            # A number stays on one line with its interval.
            return " class='v'" if value[:1].isdigit() or value[:1] in ("-", "+", "[") else " class='n'"

        sides = [side(value) if numbers else "" for value in values]
        # A short name stays on one line, too.
        sides[0] = " class='k'" if numbers and len(values[0]) < SHORT else ""
        return "".join(f"<{kind}{at}>{escape(value)}</{kind}>" for at, value in zip(sides, values, strict=True))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table><tr>{cells(head, 'th')}</tr>{body}</table>"


def figure(drawn: Figure, words: str) -> str:
    """As SVG, with `words` for who can't see it."""
    held = io.BytesIO()
    drawn.savefig(held, format="svg")
    return _image("svg+xml", held.getvalue(), words)


def photo(pixels: np.ndarray, words: str) -> str:
    """uint8 RGB [H, W, 3] as a JPEG with `words` in its place."""
    _, held = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return _image("jpeg", held.tobytes(), words)


def _image(kind: str, content: bytes, words: str) -> str:
    return (
        f"<img alt='{escape(words, quote=True)}' src='data:image/{kind};base64,{base64.b64encode(content).decode()}'>"
    )
