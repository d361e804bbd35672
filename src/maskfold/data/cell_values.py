"""Parse the cells of a table as people and spreadsheets write them: genders, ages and numbers."""

import math
import re

from maskfold.labels import GENDERS, POSSIBLE_AGES


def whole_number(cell: str) -> int | None:
    """Parse a cell such as `25`, ` 25 `, `25.0` or `25,0`. Return None if it is not a whole number of at least 0."""
    match = re.fullmatch(r"([0-9]{1,18})(?:[.,]0+)?", cell.strip())
    return int(match[1]) if match else None


def decimal_number(cell: str) -> float | None:
    """Parse a cell such as `0.75`, `7.5e-1` or `0,75`. Return NaN for a blank cell, None for any other text."""
    match = re.fullmatch(r"([+-]?[0-9]{1,18})(?:[.,]([0-9]{1,30}))?(?:[eE]([+-]?[0-9]{1,2}))?", cell.strip())
    if match:
        return float(f"{match[1]}.{match[2] or 0}e{match[3] or 0}")
    return None if cell.strip() else math.nan


def age_of(cell: str) -> int | None:
    """Parse an age in years. Return None if the cell is not a whole number in POSSIBLE_AGES."""
    age = whole_number(cell)
    return age if age in POSSIBLE_AGES else None


def gender_of(cell: str) -> str | None:
    """Parse a gender, male or female in upper or lower case. Return None for anything else."""
    word = cell.strip().lower()
    return word if word in GENDERS else None


def age_fault(cell: str) -> str:
    return f"age {cell!r} is not valid; use an integer from {POSSIBLE_AGES.start} to {POSSIBLE_AGES[-1]}"


def gender_fault(cell: str) -> str:
    return f"gender {cell!r} is not valid; use {' or '.join(GENDERS)}"
