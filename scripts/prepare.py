#!/usr/bin/env python
"""Check the raw data, list its photos and draw the folds: raw folder -> prepared folder."""

from pathlib import Path

from maskfold.cli import Parser, run


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--data", type=Path, help="raw data folder (default: the place in SM_CHANNEL_TRAIN)")
    parser.add_argument("--out", type=Path, help="prepared folder (default: data/prepared/<name of the data folder>)")
    parser.add_argument("--folds", type=int, help="folds over people, where none are drawn yet (default: 5)")
    parser.add_argument("--seed", type=int, help="shuffles people into folds (default: 42)")
    parser.add_argument("--corrections", type=Path, help="CSV of label corrections (default: none)")
    args = parser.parse_args()

    from maskfold.data.folds import largest_share_difference
    from maskfold.data.layout import find_layout
    from maskfold.data.prepare import default_folder, prepare
    from maskfold.errors import UserError

    for flag, value, least in (("--folds", args.folds, 2), ("--seed", args.seed, 0)):
        if value is not None and value < least:
            raise UserError(f"{flag} {value}: at least {least} is expected")
    layout = find_layout(args.data)
    prepared = prepare(layout, args.out or default_folder(layout), args.folds, args.seed, args.corrections)
    for warning in prepared.meta["warnings"]:
        print(f"warning: {warning}")
    if applied := prepared.meta["corrections"]:
        made, so, absent = len(applied["changed"]), applied["already_so"], len(applied["not_in_data"])
        print(f"corrections: {made} made, {so} were so already, {absent} not in the data")
        print("\n".join(f"  {change}" for change in applied["changed"]))
    counts = prepared.meta["counts"]
    print(f"{counts['people']} people, {counts['images']} photos, {counts['eval_images']} eval photos")
    difference = largest_share_difference(prepared.images, prepared.folds)
    print(f"{counts['folds']} folds over people; a class's share differs between them by at most {difference:.1%}")
    print(f"prepared: {prepared.folder}")


if __name__ == "__main__":
    run(main)
