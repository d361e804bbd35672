"""Read configuration files, override their keys by flags, explain their errors, and write configurations as YAML."""

from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from maskfold.config.experiment import KEYS, Config, ConfigSection
from maskfold.errors import UserError, did_you_mean, indented_list, one_line, short_repr

# Limits far above the needs of a configuration. Without them, a few lines of nested aliases could describe more values
# than fit into memory.
MAX_YAML_BYTES, MAX_VALUES, MAX_DEPTH = 100_000, 10_000, 50


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses duplicate keys; PyYAML would silently use the last value."""

    def construct_mapping(self, node, deep=False):
        keys = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in keys:
                mark = key_node.start_mark
                problem = f"key {short_repr(key)} is given twice"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=mark)
            keys.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict:
    """Read a YAML mapping; an empty file gives {}.

    Raises UserError if the file is missing, too large, or not a mapping in plain YAML.
    """
    try:
        text = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        names = sorted(str(file) for file in path.parent.glob("*.yaml"))
        raise UserError(
            f"{path}: no such configuration file{did_you_mean(str(path), names) or _use_one_of(names)}"
        ) from None
    if len(text) > MAX_YAML_BYTES:
        raise UserError(f"{path}: has {len(text):,} bytes; a configuration has at most {MAX_YAML_BYTES:,}")
    try:
        loader = _Loader(text.decode("utf-8"))
        root = loader.get_single_node()
        if root is None:
            return {}
        # Checked before the values are built, because each merge of a mapping (<<) copies the mapping.
        _check_size(root)
        content = loader.construct_document(root)
    # A wrong tag, such as !!int on text, can raise an exception of any type.
    except Exception as fault:
        raise UserError(f"{path}: not readable as plain YAML ({one_line(fault, 500)}); fix the file") from fault
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: contains {short_repr(content)}; write a mapping of sections, like `optim: {{lr: 0.001}}`"
        )
    return content


def _check_size(root: yaml.Node) -> None:
    """Raise ValueError for too many values or levels. The values of an alias count each time it is used."""
    size_by_id: dict[int, int] = {}

    def size(node: yaml.Node, level: int) -> int:
        if level > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels of nesting")
        if id(node) not in size_by_id:
            children = chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
            is_leaf = isinstance(node, yaml.ScalarNode)
            size_by_id[id(node)] = 1 if is_leaf else 1 + sum(size(child, level + 1) for child in children)
        return size_by_id[id(node)]

    if size(root, 0) > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES:,} values")


def _use_one_of(names: list[str]) -> str:
    one_of = "one of " if len(names) > 1 else ""
    return f"; use {one_of}{', '.join(names)}" if names else ""


def load_config(path: Path, flags: dict[str, Any] | None = None) -> Config:
    """Read a configuration file, override its keys by `flags`, and check the result.

    flags: {dotted key: text or list of texts}. Raises UserError if the file cannot be read, or if keys or values are
    wrong: the message names each such key, the file or flag that it comes from and, for an unknown key, similar keys.
    """
    content = read_yaml(path)
    flags = flags or {}
    for dotted, value in flags.items():
        section, _, key = dotted.rpartition(".")
        mapping = content.setdefault(section, {}) if section else content
        if mapping is None:
            mapping = content[section] = {}
        if not isinstance(mapping, dict):
            raise UserError(f"{path}: {section} is not a mapping of keys; write it like `{section}: {{{key}: ...}}`")
        mapping[key] = value
    # If all keys of a section are commented out, YAML reads the section as None.
    content = {key: {} if value is None and key in _SECTIONS else value for key, value in content.items()}
    try:
        return Config.model_validate(content)
    except ValidationError as fault:
        raise UserError(_explain(fault, path, flags)) from None


_SECTIONS = tuple(key for key, value in Config() if isinstance(value, ConfigSection))


def _explain(fault: ValidationError, path: Path, flags: dict[str, Any]) -> str:
    lines = []
    for error in fault.errors():
        parts = [part for part in error["loc"] if isinstance(part, str)]
        dotted = next(
            (name for n in (3, 2, 1) if (name := ".".join(parts[:n])) in KEYS), ".".join(map(str, error["loc"]))
        )
        # An error about a combination of keys has no location; its message names the keys.
        where = f"--{dotted}" if dotted in flags else f"{path}: {dotted}" if dotted else str(path)
        if error["type"] == "extra_forbidden":
            same_ending = [key for key in KEYS if key.rpartition(".")[2] == dotted.rpartition(".")[2]]
            line = f"{where}: unknown key{did_you_mean(dotted, KEYS) or _use_one_of(same_ending)}"
        else:
            message = error["msg"].removeprefix("Value error, ")
            value = (
                "" if isinstance(error["input"], dict) and not error["loc"] else f", not {short_repr(error['input'])}"
            )
            line = f"{where}: {message[0].lower()}{message[1:]}{value}"
        if line not in lines:
            lines.append(line)
    return lines[0] if len(lines) == 1 else f"{len(lines)} errors in the configuration:\n{indented_list(lines)}"


def config_text(config: Config) -> str:
    """Format a configuration as YAML with all keys."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
