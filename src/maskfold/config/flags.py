"""The flags of the configuration keys, one per key of the schema, read from flags.json.

The schema needs pydantic, whose import takes longer than all the rest of `--help`. `make docs` therefore writes what
the command line needs into flags.json. If a module of the schema has changed since, the flags are taken from the schema
instead, so an outdated file only costs time.
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

from maskfold.config import choices

FLAGS_FILE = Path(__file__).with_name("flags.json")
SCHEMA_MODULES = [Path(__file__).with_name(name) for name in ("experiment.py", "field_types.py", "schema.py")]


class Flag(NamedTuple):
    """The flag of a configuration key.

    key: such as optim.lr; meaning: its description and default; num_values: as argparse's nargs; placeholders: as
    argparse's metavar; may_be_none: whether `none` stands for None; choice: the arguments of the Choice whose names are
    the values, or None.
    """

    key: str
    meaning: str
    num_values: int | str | None
    placeholders: list[str]
    may_be_none: bool
    choice: list | None

    @property
    def metavar(self) -> str | tuple[str, ...]:
        """argparse's metavar. The names of a choice are read from the code, so they are always up to date."""
        if self.choice:
            module, variables, without = self.choice
            names = choices.Choice(module, *variables, without=without).names
            return "{" + ",".join((*names, "none") if self.may_be_none else names) + "}"
        return tuple(self.placeholders) if len(self.placeholders) > 1 else self.placeholders[0]


@cache
def config_flags() -> list[Flag]:
    """The flags of all keys, in the order of the schema."""
    try:
        content = json.loads(FLAGS_FILE.read_text(encoding="utf-8"))
        if content["sources"] == source_hash():
            return [Flag(*values) for values in content["flags"]]
    except OSError:
        pass
    from maskfold.config.schema_flags import flags_of_schema

    return flags_of_schema()


def source_hash() -> str:
    """Hash of the source code of the schema."""
    digest = hashlib.sha256()
    for module in SCHEMA_MODULES:
        # Git may have written the file with the line ends of Windows.
        digest.update(module.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()
