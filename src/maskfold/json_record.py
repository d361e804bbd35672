"""Check JSON objects as soon as they are read, so that a damaged or edited file causes a clear message."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from maskfold.errors import UserError, short_repr
from maskfold.places import can_be_path


def _check_path(path: str) -> str:
    if not can_be_path(path):
        raise ValueError("a valid path is expected")
    return path


# A count or a seed. Larger integers are not exact in float64, and much larger ones do not fit into numpy's types.
Count = Annotated[int, Field(ge=0, le=2**53)]
# A valid path: every access to a path with a NUL character or a name of thousands of characters raises an error.
PathText = Annotated[str, AfterValidator(_check_path)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


class JsonRecord(BaseModel):
    """Base of the classes that describe a JSON file. Their fields are the keys that are read; other keys are allowed.

    Text is not accepted as a number, an integer is not accepted as a boolean, and numbers must be finite.
    """

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, protected_namespaces=())


def check_record(path: Path, content: Any, record: type[JsonRecord], fix: str) -> None:
    """Raise UserError, whose message ends with `fix`, if the content of the file `path` is not a valid `record`."""
    try:
        record.model_validate(content)
    except ValidationError as fault:
        error = fault.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, error["loc"])) or "the content"
        if error["type"] == "missing":
            raise UserError(f"{path}: {where} is missing; {fix}") from None
        message = error["msg"].removeprefix("Value error, ")
        message = f"{message[:1].lower()}{message[1:]}"
        raise UserError(f"{path}: {where}: {message}, not {short_repr(error['input'])}; {fix}") from None
