"""The versions of the formats on disk: a folder that a newer maskfold wrote is refused, not misread."""

from pathlib import Path

from maskfold.errors import UserError

KEY = "format"
# A number goes up when code that knows only the lower ones would misread a folder. Readers keep accepting those.
RUN = 1
PREPARED = 1
# A folder of before the key was there.
WITHOUT_KEY = 1


def check_format(path: Path, content: dict, newest: int, mend: str) -> None:
    """Check the format version in `content`, the JSON object of `path`.

    Raises UserError where it is newer than `newest`, or no version at all; `mend` ends the second message.
    """
    version = content.get(KEY, WITHOUT_KEY)
    if type(version) is not int or version < 1:
        raise UserError(f"{path}: {KEY} {version!r} is not valid; a whole number from 1 is expected; {mend}")
    if version > newest:
        raise UserError(
            f"{path}: format version {version} is newer than {newest}, the newest that this maskfold reads; "
            "update maskfold"
        )
