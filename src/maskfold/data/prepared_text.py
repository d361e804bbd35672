"""Describe a prepared folder in lines of text."""

from maskfold.data.damaged_photos import describe_skipped
from maskfold.data.folds import largest_share_difference
from maskfold.data.images_table import Prepared


def describe(prepared: Prepared) -> list[str]:
    """Lines that describe a prepared folder: warnings, photos left out, corrections, counts, folds."""
    meta, counts = prepared.meta, prepared.meta["counts"]
    lines = [f"warning: {warning}" for warning in meta["warnings"]] + describe_skipped(meta.get("skipped"))
    if applied := meta["corrections"]:
        made, unchanged, absent = len(applied["changed"]), applied["already_so"], len(applied["not_in_data"])
        lines.append(f"corrections: {made} made, {unchanged} already correct, {absent} not in the data")
        lines += [f"  {change}" for change in applied["changed"]]
    lines.append(f"{counts['people']} people, {counts['images']} photos, {counts['eval_images']} eval photos")
    difference = largest_share_difference(prepared.images, prepared.folds)
    lines.append(
        f"{counts['folds']} folds, grouped by person; the share of a class differs between folds by at most "
        f"{difference:.1%}"
    )
    return [*lines, f"prepared: {prepared.folder}"]
