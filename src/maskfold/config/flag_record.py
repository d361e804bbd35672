"""The flag of a configuration key, and the file with the flags of all keys."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from maskfold.config.choices import Choice

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
            names = Choice(module, *variables, without=without).names
            return "{" + ",".join((*names, "none") if self.may_be_none else names) + "}"
        return tuple(self.placeholders) if len(self.placeholders) > 1 else self.placeholders[0]


def source_hash() -> str:
    """Hash of the source code of the schema."""
    digest = hashlib.sha256()
    for module in SCHEMA_MODULES:
        # Git may have written the file with the line ends of Windows.
        digest.update(module.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()
