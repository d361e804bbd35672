"""The flags of the configuration keys, one per key of the schema, read from flags.json.

The schema needs pydantic, whose import takes longer than all the rest of `--help`. `make docs` therefore writes what
the command line needs into flags.json. If a module of the schema has changed since, the flags are taken from the schema
instead, so an outdated file only costs time.
"""

import json
from functools import cache

from maskfold.config.flag_record import FLAGS_FILE, Flag, source_hash


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
