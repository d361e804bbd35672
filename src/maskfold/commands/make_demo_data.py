"""Render a small synthetic dataset in the competition's layout, with its class distribution and irregularities.

It contains no photograph. The true labels of the eval set are written to answers.csv.
"""

from pathlib import Path

from maskfold.config.cli import Parser


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("data/demo"), help="folder to write the dataset to (default: %(default)s)"
    )
    parser.add_argument(
        "--people", type=int, default=60, help="people in the training set, seven photos each (default: %(default)s)"
    )
    parser.add_argument(
        "--eval-people", type=int, default=20, dest="eval_people", help="people in the eval set (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed; the same seed gives the same photos (default: %(default)s)"
    )
    args = parser.parse_args()

    from maskfold.synthetic.demo_data import make_demo

    rendered = make_demo(args.out, args.people, args.eval_people, args.seed)
    print(
        f"{args.out}: {args.people} + {args.eval_people} people, seven photos each"
        + ("" if rendered else " (exists already)")
    )
    print(f"true labels of the eval set: {args.out / 'answers.csv'}")
