"""Make the flags of the configuration keys from the schema, and write them to flags.json."""

import json
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from maskfold.config.choices import choice_of
from maskfold.config.experiment import Config, ConfigSection
from maskfold.config.flag_record import Flag, source_hash


def schema_fields() -> dict[str, FieldInfo]:
    """The field of each key, by dotted key, in the order of the schema."""
    fields: dict[str, FieldInfo] = {}
    for name, field in Config.model_fields.items():
        if isinstance(field.default, ConfigSection):
            fields |= {f"{name}.{key}": inner for key, inner in type(field.default).model_fields.items()}
        else:
            fields[name] = field
    return fields


def flags_of_schema() -> list[Flag]:
    """The flags of all keys, in the order of the schema."""
    return [_flag(key, field) for key, field in schema_fields().items()]


def write_flags(path: Path) -> None:
    """Write flags.json."""
    content = {"sources": source_hash(), "flags": flags_of_schema()}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _flag(key: str, field: FieldInfo) -> Flag:
    choice, annotated = choice_of(field), get_args(field.annotation)
    several, open_ended = isinstance(field.default, tuple), Ellipsis in annotated
    default = (" ".join(map(str, field.default)) or None) if several else field.default
    placeholders = ["VALUE"]
    if get_origin(field.annotation) is Literal:
        placeholders = ["{" + ",".join(annotated) + "}"]
    elif several and not open_ended:
        placeholders = ["H", "W"]
    return Flag(
        key,
        f"{field.description} (default: {'none' if default is None else default})",
        "+" if open_ended else len(field.default) if several else None,
        placeholders,
        type(None) in annotated,
        [choice.module, list(choice.variables), choice.without] if choice else None,
    )
