"""A page with two tiny networks, and a browser without a network that opens it."""

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskfold.config.experiment import Data
from maskfold.export.page_model import PageModel
from maskfold.labels import NUM_CLASSES
from maskfold.loading.stored_photo import stored_pixels
from maskfold.loading.transforms import EvalTransform
from maskfold.metrics.calibration import apply_temperature
from maskfold.synthetic.rendering import render_photo, sample_appearance

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
# Seconds after which a test gives up.
PATIENCE = 240


def tiny_graph(seed: int) -> bytes:
    """Two convolutions with random weights: `photos` uint8 [B, H, W, 3] -> `probs` float32 [B, 18]."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    shapes = {"w": (16, 3, 7, 7), "v": (32, 16, 3, 3), "m": (32, NUM_CLASSES), "b": (NUM_CLASSES,)}
    weights = {name: (0.2 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    weights["scale"] = np.array(1 / 128, np.float32)
    nodes = [
        helper.make_node("Cast", ["photos"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["nchw", "scale"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "w"], ["c"], strides=[4, 4]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["d"], strides=[2, 2]),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("GlobalAveragePool", ["e"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "m", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probs"], axis=1),
    ]
    photos = helper.make_tensor_value_info("photos", TensorProto.UINT8, ["batch", None, None, 3])
    probs = helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["batch", NUM_CLASSES])
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tiny", [photos], [probs], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def expected_probs(model: PageModel, inputs: np.ndarray) -> np.ndarray:
    """Probabilities of inputs uint8 [N, H, W, 3] by onnxruntime in Python, float64 [N, 18]."""
    sessions = [onnxruntime.InferenceSession(graph) for graph in model.graphs]
    return apply_temperature(
        np.mean([each.run(None, {"photos": inputs})[0] for each in sessions], 0), model.temperature
    )


def face_photo(seed: int = 0, wearing: str = "none") -> np.ndarray:
    rng = np.random.default_rng(seed)
    return render_photo(sample_appearance(True, 30, rng), wearing, rng)


def png_bytes(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def tiny_page_model(crop: str, temperature: float = 1.3, name: str = "tiny") -> PageModel:
    data = Data(crop=crop, image_size=(64, 48), crop_size=(300, 240))
    model = PageModel(name, [tiny_graph(seed) for seed in (0, 1)], temperature, data, {}, {})
    inputs = np.random.default_rng(0).integers(0, 256, (2, *data.image_size, 3), np.uint8)
    source = face_photo(1)[50:400, 30:340].copy()
    preprocessed = EvalTransform(data)(stored_pixels(source, data)[0])
    sha256 = hashlib.sha256(preprocessed.tobytes()).hexdigest()
    rows = [
        {"photo": base64.b64encode(photo.tobytes()).decode(), "probs": probs.tolist()}
        for photo, probs in zip(inputs, expected_probs(model, inputs), strict=True)
    ]
    [probs] = expected_probs(model, preprocessed[None])
    png = base64.b64encode(png_bytes(source)).decode()
    sources = [{"png": png, "input_sha256": sha256, "probs": probs.tolist()}]
    check = {"inputs": rows, "sources": sources, "tolerance": 1e-4}
    scores = {"macro_f1": 0.7123, "macro_f1_ci95": [0.6912, 0.7351]}
    return PageModel(name, model.graphs, temperature, data, scores, check)


class OpenPage:
    """A page in Chromium without a network. complaints: requests other than the page itself, and console messages."""

    def __init__(self, page, path: Path):
        self.page, self.complaints = page, []
        page.set_default_timeout(1000 * PATIENCE)
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        # The page makes no request at all but for data: URLs inside it.
        page.on(
            "request", lambda request: self.complaints.append(request.url) if request.url != path.as_uri() else None
        )
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready]", state="attached")

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition. Playwright's own wait_for_function evaluates a string, which the page's policy forbids."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "timed out"
            self.page.wait_for_timeout(100)

    def classify(self, *paths: Path) -> list:
        """Choose files; returns their cards when all are done."""
        before = len(self.page.query_selector_all(".card"))
        self.page.set_input_files("#files", list(map(str, paths)))
        self.until(lambda: len(self.page.query_selector_all(".card[data-done]")) == before + len(paths))
        return self.page.query_selector_all(".card")[: len(paths)]


@contextmanager
def chromium(*flags: str) -> Iterator:
    """A headless Chromium; skip the test if there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
    path = next((path for path in CHROMIUM if Path(path).exists()), None)
    if path is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *flags])
        yield browser
        browser.close()


def open_page(browser, path: Path, **context: object) -> OpenPage:
    return OpenPage(browser.new_context(offline=True, **{"locale": "en-GB", **context}).new_page(), path)


def script_contents(page: str, kind: str) -> dict[str, str]:
    """The contents of the scripts of one type in a page, by id."""
    scripts = re.findall(r'<script type="([\w/]+)"(?: id="([\w-]+)")?>(.*?)</script>', page, re.S)
    return {name: content for type_, name, content in scripts if type_ == kind}
