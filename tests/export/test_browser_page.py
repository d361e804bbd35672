"""The page as a file: complete, closed to the network, in two languages."""

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace

import pytest
from tiny_page import script_contents, tiny_graph, tiny_page_model

from maskfold.errors import UserError
from maskfold.export import browser_page
from maskfold.export.browser_page import BROWSER, MODULES, RUNTIME, write_page
from maskfold.labels import AXES

TEXTS = json.loads(BROWSER.joinpath("texts.json").read_text(encoding="utf-8"))


def modules_of(page: str) -> dict[str, str]:
    """Sources of the modules in the page's import map, by name."""
    [import_map] = script_contents(page, "importmap").values()
    head = "data:text/javascript;base64,"
    imports = json.loads(import_map)["imports"]
    assert all(url.startswith(head) for url in imports.values())
    return {name: base64.b64decode(url.removeprefix(head)).decode() for name, url in imports.items()}


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "app.html"
    write_page(path, tiny_page_model("center", name="a </script> ${name} & <b>"))
    return path.read_text(encoding="utf-8")


def test_the_page_holds_the_networks(page):
    blobs = {
        name: gzip.decompress(base64.b64decode(text))
        for name, text in script_contents(page, "application/gzip").items()
    }
    assert list(blobs) == ["ort-wasm", "yunet", "fold0", "fold1"]
    assert [blobs["fold0"], blobs["fold1"]] == [tiny_graph(0), tiny_graph(1)]
    assert blobs["ort-wasm"].startswith(b"\0asm")


def test_the_policy_allows_only_what_is_inside_the_page(page):
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    # No source is a host, a scheme of the network, or any inline script.
    sources = {source for rule in rules.values() for source in rule.split()}
    assert all(
        source in {"'none'", "'wasm-unsafe-eval'", "data:", "blob:"} or source.startswith("'sha256-")
        for source in sources
    )
    scripts = [*script_contents(page, "importmap").values(), *script_contents(page, "module").values()]
    [style] = re.findall(r"<style>(.*?)</style>", page, re.S)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (*scripts, style)]
    assert all(f"'sha256-{value}'" in policy for value in hashes)
    assert not re.findall(r'(?:src|href)="(?!data:)', page)


def test_a_name_cannot_break_the_page(page):
    assert page.count("<script") == page.count("</script>") == 6
    assert '"name": "a </script> ${name} & <b>"' in modules_of(page)["settings"]


def test_all_modules_are_in_the_page(page):
    modules = modules_of(page)
    assert set(modules) == {*MODULES, "ort", "texts", "settings"}
    assert {path.name.removesuffix(".js") for path in BROWSER.iterdir() if path.name.endswith(".js")} == {
        *MODULES,
        "app",
    }
    for source in [*modules.values(), BROWSER.joinpath("app.js").read_text(encoding="utf-8")]:
        assert set(re.findall(r'^import .* from "(.*)";$', source, re.M)) <= set(modules)


def test_the_same_model_gives_the_same_page(page, tmp_path):
    write_page(tmp_path / "again.html", tiny_page_model("center", name="a </script> ${name} & <b>"))
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_both_languages_have_the_same_texts():
    assert list(TEXTS) == ["en", "ko"]
    values = {
        name: {key: sorted(re.findall(r"\{\w+\}", text)) for key, text in texts.items()}
        for name, texts in TEXTS.items()
    }
    assert values["en"] == values["ko"]
    assert all(text.strip() for texts in TEXTS.values() for text in texts.values())


def test_texts_exist_and_are_used(page):
    names = [path.name for path in BROWSER.iterdir() if path.name.endswith((".js", ".html"))]
    sources = {name: BROWSER.joinpath(name).read_text(encoding="utf-8") for name in names}
    used = {key for source in sources.values() for key in re.findall(r'data-(?:text|label)="(\w+)"', source)}
    assert used <= set(TEXTS["en"])
    words = {word for source in sources.values() for word in re.findall(r"""["'`](\w+)["'`]""", source)}
    parts = {f"{axis}_{index}" for axis, names in AXES.items() for index in range(len(names))} | set(AXES)
    assert set(TEXTS["en"]) - words - used - parts == set()
    # Before the scripts run, the page is in English.
    assert f">{TEXTS['en']['privacy']}</p>" in page


def test_the_runtime_is_the_published_one():
    for line in RUNTIME.joinpath("sha256sums.txt").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256(gzip.decompress(RUNTIME.joinpath(f"{name}.gz").read_bytes())).hexdigest() == digest
    assert sum(len(path.read_bytes()) for path in RUNTIME.iterdir()) < 5e6
    assert "MIT License" in RUNTIME.joinpath("LICENSE").read_text()


def test_networks_that_are_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(browser_page, "MAX_GRAPH_MB", 0.045)
    model = tiny_page_model("none")
    with pytest.raises(UserError, match=r"tiny: the networks have .* MB.*--folds"):
        write_page(tmp_path / "app.html", model)
    assert not list(tmp_path.iterdir())
    write_page(tmp_path / "app.html", replace(model, graphs=model.graphs[:1]))
