"""Write app.html: one page that classifies photos in the browser, without a network and without sending anything.

The page holds the networks, the detector YuNet and onnxruntime-web. Its modules are in browser/; an import map gives
them as data: URLs, because a page opened from a file may not load other files.
"""

import base64
import gzip
import hashlib
import html
import json
import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

import cv2
import numpy as np

from maskfold.errors import UserError
from maskfold.export.check_inputs import face_photos
from maskfold.export.page_model import PageModel
from maskfold.export.page_settings import page_settings
from maskfold.fileio import write_text
from maskfold.loading.faces import MODEL

BROWSER = files("maskfold.export").joinpath("browser")
RUNTIME = BROWSER.joinpath("onnxruntime-web")
YUNET = files("maskfold.loading").joinpath("yunet")
# Modules of the page by the name under which others import them; app.js is the entry.
MODULES = ("view", "yunet", "photo_pixels", "classifier", "translation", "results", "camera")
# Browsers limit the length of a text in a page (Chrome: 512 MB), and need several times this memory while loading.
MAX_GRAPH_MB = 350


def write_page(path: Path, model: PageModel) -> None:
    """Write the page for a model. Raises UserError if the model is too large for a page."""
    check_page_size(model)
    write_text(path, _page_html(model))


def check_page_size(model: PageModel) -> None:
    """Raise UserError if the networks are too large for a page."""
    size = sum(map(len, model.graphs)) / 1e6
    if size > MAX_GRAPH_MB:
        raise UserError(
            f"{model.name}: the networks have {size:.0f} MB, but app.html can hold {MAX_GRAPH_MB} MB; export fewer "
            "folds with --folds, or halve the size with --half"
        )


def _page_html(model: PageModel) -> str:
    style, entry = _text(BROWSER, "style.css"), _text(BROWSER, "app.js")
    import_map = json.dumps({"imports": _imports(model)})
    policy = (
        # Nothing is allowed but what is inside the page: no source below is reached through a network.
        f"default-src 'none'; script-src {_source_hash(import_map)} {_source_hash(entry)} 'wasm-unsafe-eval' data:; "
        f"style-src {_source_hash(style)}; img-src data: blob:; media-src blob:; base-uri 'none'; form-action 'none'"
    )
    blobs = {"ort-wasm": RUNTIME.joinpath("ort-wasm-simd-threaded.wasm.gz").read_bytes(), "yunet": _gzip(_free_yunet())}
    blobs |= {f"fold{fold}": _gzip(graph) for fold, graph in enumerate(model.graphs)}
    data = [f'<script type="application/gzip" id="{name}">{_base64(blob)}</script>' for name, blob in blobs.items()]
    data += [f'<script type="importmap">{import_map}</script>', f'<script type="module">{entry}</script>']
    licences = [_text(RUNTIME, "LICENSE"), _text(YUNET, "LICENSE"), _third_party_notices()]
    page = Template(_with_english(_text(BROWSER, "page.html")))
    return page.substitute(
        policy=policy, style=style, data="\n".join(data), licences=html.escape("\n\n".join(licences))
    )


def _imports(model: PageModel) -> dict[str, str]:
    """The import map: name of a module -> data: URL."""
    settings = page_settings(model) | {"examples": [_base64(_jpeg(photo)) for photo in face_photos()]}
    sources = {name: _text(BROWSER, f"{name}.js") for name in MODULES}
    sources["ort"] = gzip.decompress(RUNTIME.joinpath("ort.wasm.bundle.min.mjs.gz").read_bytes()).decode()
    for name, content in (("texts", json.loads(_text(BROWSER, "texts.json"))), ("settings", settings)):
        sources[name] = f"export default {json.dumps(content)}"
    return {name: f"data:text/javascript;base64,{_base64(source.encode())}" for name, source in sources.items()}


def _with_english(page: str) -> str:
    """Fill the English texts into the empty elements with data-text, for the moments before the scripts run."""
    texts = json.loads(_text(BROWSER, "texts.json"))["en"]
    return re.sub(r'data-text="(\w+)">(?=</)', lambda match: match[0] + html.escape(texts[match[1]]), page)


def _free_yunet() -> bytes:
    """YuNet for photos of any size: the file fixes the height and width of its input and the number of its boxes."""
    import onnx

    model = onnx.load_from_string(YUNET.joinpath(MODEL).read_bytes())
    for value, axes in [*((value, (2, 3)) for value in model.graph.input), *((v, (1,)) for v in model.graph.output)]:
        for axis in axes:
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
    del model.graph.value_info[:]
    return model.SerializeToString()


def _third_party_notices() -> str:
    return gzip.decompress(RUNTIME.joinpath("ThirdPartyNotices.txt.gz").read_bytes()).decode()


def _text(folder: Traversable, name: str) -> str:
    return folder.joinpath(name).read_text(encoding="utf-8")


def _gzip(content: bytes) -> bytes:
    # Without a time, the same model gives the same page.
    return gzip.compress(content, 6, mtime=0)


def _jpeg(photo: np.ndarray) -> bytes:
    """A photo, RGB uint8 [H, W, 3], as a JPEG file."""
    return cv2.imencode(".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))[1].tobytes()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _source_hash(source: str) -> str:
    """The expression for an inline script or style in a Content-Security-Policy."""
    return f"'sha256-{_base64(hashlib.sha256(source.encode()).digest())}'"
