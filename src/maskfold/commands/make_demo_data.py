"""Draw a small dataset in the competition's layout: no photograph of anyone, the real class mix and quirks."""

from pathlib import Path

from maskfold.config.cli import Parser


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/demo"), help="folder to write (default: %(default)s)")
    parser.add_argument(
        "--people", type=int, default=60, help="people to train on, seven photos each (default: %(default)s)"
    )
    parser.add_argument(
        "--eval-people", type=int, default=20, dest="eval_people", help="people of the eval side (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed draws the same photos (default: %(default)s)"
    )
    args = parser.parse_args()

    from maskfold.synthetic.demo_data import make_demo

    drawn = make_demo(args.out, args.people, args.eval_people, args.seed)
    print(
        f"{args.out}: {args.people} + {args.eval_people} people, seven photos each"
        + ("" if drawn else " (there already)")
    )
    print(f"the eval side's truth: {args.out / 'answers.csv'}")
