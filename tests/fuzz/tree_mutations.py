"""Mutations of JSON, JSON lines and YAML: values of other types, odd numbers, other keys, deep nesting, tags, aliases."""

import copy
import json
from typing import Any

import yaml
from byte_mutations import Draw
from hypothesis import strategies as st


class Raw:
    """A value that is written to the file as this text."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return f"Raw({self.text[:40]!r})"

    def __deepcopy__(self, memo: dict) -> "Raw":
        return self


ODD_VALUES = (
    None, True, False, 0, -1, 1, 2, 18, 2**31, 2**63, 2**64, 10**30, 1e308, -1e308, 5e-324, 0.5, -0.0, "", " ", "x", "nan",
    "1", "0.5", "-1", "true", "none", "\0", "\ud800", "\ue000", "é" * 300, "a/b", "../x", "/dev/null", "a" * 5000, [], {},
    [[]], [None], {"": {}}, [0] * 1000, ["x"] * 3, [1, 2], [2, 1], {"a": 1}, [{"a": [1]}], [0.1, "x"], [True, False],
)  # fmt: skip
RAW_JSON = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "-" + "9" * 400, "1" + "0" * 310, "[" * 20000 + "]" * 20000,
    '{"a":' * 3000 + "1" + "}" * 3000, '{"a": 1, "a": 2}', '"\\ud800"', '"\\u0000"', "1.0", "-0", "1E5", "01", "'x'", "tru", ",",
)  # fmt: skip
BOMB = "[&a [x,x,x,x,x,x,x,x,x]" + "".join(
    f", &{new} [{','.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
RAW_YAML = (
    ".nan", ".inf", "-.inf", "1_000", "0x" + "f" * 5000, "-0b" + "1" * 20000, "9" * 5000, "1:60:60", "60:" * 400 + "1.5", "0o17", "017",
    "1e3", "1.e+400", "2001-01-01", "2001-13-45", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2001-01-01 1:2:3.4",
    "!!int ''", "!!int x", "!!int '_'", "!!float ''", "!!float x", "!!bool x", "!!null x", "!!binary x", "!!timestamp x", "!!str 1",
    "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!seq {a: 1}", "!!map [a]", "!!merge x", "!x y", "!<tag:x> y",
    "!!python/object/apply:os.system [echo]", "!!python/name:os.system", "&a [*a]", "&a {b: *a}", "*a", "&a x", BOMB + "]",
    "[" * 500 + "]" * 500, "{a: " * 900 + "1" + "}" * 900, "{[a]: 1}", "{{a: 1}: 1}", "{1: 2}", "{2001-01-01: 1}", "{a: 1, a: 2}",
    "{<<: {a: 1}}", "{<<: [x]}", "{<<: x}", '"\\ud800"', '"\\UFFFFFFFF"', '"\\U00110000"', '"\\x00"', '"\\q"', "'", '"', "|", ">",
    "? x", "%YAML 9.9", "---", "...", "- x", "@x", "`x`", "=", "<<", "~", "yes", "off", "\t", "[x", "{x", "#", "x: y: z", "!", "&", "*",
    "[" + "x," * 20000 + "]", "{" + ",".join(f"k{n}: 1" for n in range(3000)) + "}",
)  # fmt: skip
KEYS = ("", "x", "format", "data", "epoch", "0", "\ud800", "a.b", "__class__", "seed")


def paths_in(tree: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all nodes of a tree, the root first."""
    paths = [path]
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        paths += paths_in(value, (*path, key))
    return paths


def node_at(tree: Any, path: tuple) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def replaced(tree: Any, path: tuple, value: Any) -> Any:
    if not path:
        return value
    node_at(tree, path[:-1])[path[-1]] = value
    return tree


def mutate_tree(draw: Draw, tree: Any, odd_values: st.SearchStrategy, keys: tuple = KEYS) -> Any:
    """A copy of a tree with one to three mutations."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        tree = _mutate_once(draw, tree, odd_values, keys)
    return tree


def _mutate_once(draw: Draw, tree: Any, odd_values: st.SearchStrategy, keys: tuple) -> Any:
    paths = paths_in(tree)
    path = draw(st.sampled_from(paths))
    parent, node = (node_at(tree, path[:-1]) if path else None), node_at(tree, path)
    kind = draw(
        st.sampled_from(
            ("value", "value", "value", "delete", "key", "add", "other", "wrap", "text", "repeat", "number")
        )
    )
    if kind == "delete" and path:
        del parent[path[-1]]
    elif kind == "key" and isinstance(parent, dict):
        new = draw(st.sampled_from((*keys, *map(str, parent))))
        items = [(new if key == path[-1] else key, value) for key, value in parent.items()]
        parent.clear()
        parent.update(items)
    elif kind == "add" and isinstance(node, dict):
        node[draw(st.sampled_from(keys))] = draw(odd_values)
    elif kind == "add" and isinstance(node, list):
        node.insert(draw(st.integers(0, len(node))), draw(odd_values))
    elif kind == "other":
        return replaced(tree, path, copy.deepcopy(node_at(tree, draw(st.sampled_from(paths)))))
    elif kind == "wrap":
        return replaced(tree, path, [node] if draw(st.booleans()) else {"x": node})
    elif kind == "text":
        return replaced(tree, path, str(node)[:5000])
    elif kind == "repeat" and isinstance(node, list):
        return replaced(tree, path, node * draw(st.sampled_from((0, 2, 100))))
    elif kind == "number" and isinstance(node, int | float):
        factor = draw(st.sampled_from((-1, 0, 0.5, 2, 1e9, 1e300, float("inf"), float("nan"))))
        return replaced(tree, path, node * factor)
    else:
        return replaced(tree, path, draw(odd_values))
    return tree


def with_placeholders(node: Any, texts: list[str]) -> Any:
    """A copy in which each Raw is a word, by which `fill` finds it; its text is appended to `texts`."""
    if isinstance(node, Raw):
        texts.append(node.text)
        return f"RAW{len(texts) - 1}RAW"
    if isinstance(node, dict):
        return {key: with_placeholders(value, texts) for key, value in node.items()}
    return [with_placeholders(value, texts) for value in node] if isinstance(node, list) else node


def fill(written: str, texts: list[str], quote: str = "") -> bytes:
    for number, text in enumerate(texts):
        written = written.replace(f"{quote}RAW{number}RAW{quote}", text)
    return written.encode("utf-8", "surrogatepass")


# Copies, since later mutations may change the lists and mappings among them.
ODD_JSON = st.sampled_from((*ODD_VALUES, *map(Raw, RAW_JSON))).map(copy.deepcopy)
ODD_YAML = st.sampled_from((*ODD_VALUES, *map(Raw, RAW_YAML))).map(copy.deepcopy)


def to_json(draw: Draw, tree: Any) -> bytes:
    texts: list[str] = []
    return fill(json.dumps(with_placeholders(tree, texts), ensure_ascii=draw(st.booleans())), texts, '"')


def mutate_json(draw: Draw, content: bytes) -> bytes:
    return to_json(draw, mutate_tree(draw, json.loads(content), ODD_JSON))


def mutate_json_lines(draw: Draw, content: bytes) -> bytes:
    rows = mutate_tree(draw, [json.loads(line) for line in content.splitlines()], ODD_JSON)
    return b"\n".join(to_json(draw, row) for row in (rows if isinstance(rows, list) else [rows]))


def mutate_yaml(draw: Draw, content: bytes) -> bytes:
    texts: list[str] = []
    tree = with_placeholders(mutate_tree(draw, yaml.safe_load(content) or {}, ODD_YAML), texts)
    return fill(yaml.safe_dump(tree, allow_unicode=draw(st.booleans()), default_flow_style=draw(st.booleans())), texts)
