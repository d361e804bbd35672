"""The record of what a page was made from. It is a tag in the page itself, so that a moved page keeps it."""

import hashlib
import re
from pathlib import Path

REPORT_FILE, COMPARISON_FILE = "report.html", "comparison.html"
# The tag holds the hash of the inputs and the hash of the page without the tag. The second hash shows whether somebody
# has edited the page.
TAG = re.compile("<meta name='maskfold-inputs' content='([0-9a-f]{64}) ([0-9a-f]{64})'>")


def with_record(text: str, inputs: str | None) -> str:
    """Add the record to the text of a page.

    inputs: see report_inputs; if it is None, no record is added, so that the page is always made again.
    """
    if inputs is None:
        return text
    return text.replace("<head>", f"<head><meta name='maskfold-inputs' content='{inputs} {_hash_of(text)}'>", 1)


def is_current_page(path: Path, inputs: str | None) -> bool:
    """Whether a page was made from these inputs and has not been edited since."""
    if inputs is None or not path.is_file():
        return False
    text = path.read_bytes().decode("utf-8", errors="replace")
    record = TAG.search(text)
    return record is not None and record.groups() == (inputs, _hash_of(TAG.sub("", text, count=1)))


def _hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
