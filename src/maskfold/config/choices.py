"""Configuration keys and flags whose valid values are the keys of a dict in the module that implements the choices.

A new head, loss or crop therefore needs only one line in that dict. The names are read from the module's source code.
Importing the module would import torch, so every --help and every read of a config.yaml would take seconds.
"""

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic.fields import FieldInfo
    from pydantic_core import CoreSchema

PACKAGE = Path(__file__).parents[1]


@cache
def names_by_dict(module: str) -> dict[str, tuple[str, ...]]:
    """The keys of each dict at the top level of a module, in order. module: its path relative to the package."""
    names = {}
    for node in ast.parse((PACKAGE / module).read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if isinstance(targets[0], ast.Name) and isinstance(value, ast.Dict):
            keys = [key.value for key in value.keys if isinstance(key, ast.Constant)]
            names[targets[0].id] = tuple(key for key in keys if isinstance(key, str))
    return names


def dict_names(module: str, variable: str) -> tuple[str, ...]:
    """The keys of a module's dict: ("models/heads.py", "HEADS") -> ("joint", "factored")."""
    return names_by_dict(module)[variable]


class Choice:
    """Annotation for a configuration key whose valid values are the keys of one or more dicts in a module.

    module: its path relative to the package. variables: the names of the dicts. without: an additional value, such as
    `none`, that selects nothing; None if there is no such value.
    """

    def __init__(self, module: str, *variables: str, without: str | None = None):
        self.module, self.variables, self.without = module, variables, without

    @property
    def names(self) -> tuple[str, ...]:
        names = [name for variable in self.variables for name in dict_names(self.module, variable)]
        return tuple(names) if self.without is None else (self.without, *names)

    def check(self, value: Any) -> Any:
        """Return a valid name unchanged. Raises ValueError for other values, with a message like pydantic's own."""
        if value not in self.names:
            *others, last = map(repr, self.names)
            raise ValueError(f"input should be {', '.join(others)} or {last}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self.check, handler(source))


def choice_in(annotation: Any) -> Choice | None:
    """The Choice in an annotation, at any depth, or None."""
    if isinstance(annotation, Choice):
        return annotation
    return next((choice for inner in get_args(annotation) if (choice := choice_in(inner))), None)


def choice_of(field: "FieldInfo") -> Choice | None:
    """The Choice whose names are the values of a key, or None."""
    return next(filter(None, map(choice_in, (*field.metadata, field.annotation))), None)
