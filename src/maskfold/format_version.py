"""Format versions of the folders on disk: a folder of a newer version is refused instead of misread."""

from pathlib import Path

from maskfold.errors import UserError

KEY = "format"
# Increase a version when older code would misread a new folder. Readers keep accepting all older versions.
RUN = 1
PREPARED = 1
# The version of folders written before the key existed.
WITHOUT_KEY = 1


def check_format(path: Path, content: dict, newest: int, fix: str) -> None:
    """Check the format version in `content`, the JSON object read from `path`.

    Raises UserError if it is not a valid version (the message then ends with `fix`), or if it is newer than `newest`.
    """
    version = content.get(KEY, WITHOUT_KEY)
    if type(version) is not int or version < 1:
        raise UserError(f"{path}: {KEY} {version!r} is not valid, because it is not a positive integer; {fix}")
    if version > newest:
        raise UserError(
            f"{path}: format version {version} is newer than {newest}, the newest that this maskfold reads; "
            "update maskfold"
        )
