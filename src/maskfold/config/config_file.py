"""Configuration files: read with their flags, explained where they are wrong, saved."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from maskfold.config.experiment import KEYS, Config, Section
from maskfold.errors import UserError, listed, nearest, one_line


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses a key given twice, which YAML would answer with the last one."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (at, _) in zip(keys, node.value, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(problem=f"key {key!r} given twice", problem_mark=at.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict:
    """A YAML mapping. Raises UserError for a missing file, broken YAML, Python objects and anything but a mapping."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        there = sorted(str(file) for file in path.parent.glob("*.yaml"))
        raise UserError(
            f"{path}: no such configuration file{nearest(str(path), there) or listed_names(there)}"
        ) from None
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
        # A tag such as !!int on text makes the loader raise whatever its constructor meets.
        raise UserError(f"{path}: not readable as plain YAML ({one_line(fault)}); mend the file") from fault
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: a mapping of sections is expected, like `optim: {{lr: 0.001}}`; it holds {content!r}")
    return content


def listed_names(names: list[str]) -> str:
    return f"; there are {', '.join(names)}" if names else ""


def load_config(path: Path, flags: dict[str, Any] | None = None) -> Config:
    """The file's keys, overridden by `flags` {dotted key: text or list of texts}, checked as one.

    Raises UserError that names every wrong key, where it was given, and the nearest right one.
    """
    content = read_yaml(path)
    flags = flags or {}
    for dotted, value in flags.items():
        section, _, key = dotted.rpartition(".")
        holder = content.setdefault(section, {}) if section else content
        if holder is None:
            holder = content[section] = {}
        if not isinstance(holder, dict):
            raise UserError(f"{path}: {section}: keys are expected, like `{section}: {{{key}: ...}}`")
        holder[key] = value
    # A section with all its keys commented out is an empty one.
    content = {key: {} if value is None and key in _SECTIONS else value for key, value in content.items()}
    try:
        return Config.model_validate(content)
    except ValidationError as fault:
        raise UserError(_explain(fault, path, flags)) from None


_SECTIONS = tuple(key for key, value in Config() if isinstance(value, Section))


def _explain(fault: ValidationError, path: Path, flags: dict[str, Any]) -> str:
    lines = []
    for error in fault.errors():
        known = [part for part in error["loc"] if isinstance(part, str)]
        dotted = next(
            (name for n in (3, 2, 1) if (name := ".".join(known[:n])) in KEYS), ".".join(map(str, error["loc"]))
        )
        # A fault of several keys together has no place of its own: its words name them.
        where = f"--{dotted}" if dotted in flags else f"{path}: {dotted}" if dotted else str(path)
        if error["type"] == "extra_forbidden":
            last = [key for key in KEYS if key.rpartition(".")[2] == dotted.rpartition(".")[2]]
            line = f"{where}: unknown key{nearest(dotted, KEYS) or listed_names(last)}"
        else:
            message = error["msg"].removeprefix("Value error, ")
            given = "" if isinstance(error["input"], dict) and not error["loc"] else f", not {error['input']!r}"
            line = f"{where}: {message[0].lower()}{message[1:]}{given}"
        if line not in lines:
            lines.append(line)
    return lines[0] if len(lines) == 1 else f"{len(lines)} faults in the configuration:\n{listed(lines)}"


def config_text(config: Config) -> str:
    """Every key, as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
