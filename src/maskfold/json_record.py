"""Checked JSON objects: a damaged or edited file is one message, not an error where its values are used."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from maskfold.errors import UserError, short_repr
from maskfold.places import can_be_path


def _check_path(path: str) -> str:
    if not can_be_path(path):
        raise ValueError("a path is expected")
    return path


# A count or a seed: larger integers would not fit into numpy's types.
Count = Annotated[int, Field(ge=0, le=2**53)]
# A path: one with a NUL or a name of thousands of characters would be an OSError wherever it is looked for.
PathText = Annotated[str, AfterValidator(_check_path)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


class JsonRecord(BaseModel):
    """Base of the classes that describe a JSON file: the keys that are read, with their types; other keys are allowed.

    A text is not accepted for a number, nor an integer for a boolean, and numbers are finite.
    """

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, protected_namespaces=())


def check_record(path: Path, content: Any, record: type[JsonRecord], fix: str) -> None:
    """Raise UserError, ending with `fix`, where `content` of the file `path` is not a `record`."""
    try:
        record.model_validate(content)
    except ValidationError as fault:
        error = fault.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, error["loc"])) or "the content"
        if error["type"] == "missing":
            raise UserError(f"{path}: {where} is missing; {fix}") from None
        message = f"{error['msg'][:1].lower()}{error['msg'][1:]}"
        raise UserError(f"{path}: {where}: {message}, not {short_repr(error['input'])}; {fix}") from None
