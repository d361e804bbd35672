"""Find a learning rate: train on one fold while the learning rate rises, and plot the loss.

This is the learning-rate range test of Smith (2017). It saves a figure and prints a learning rate for optim.lr. It
changes no run. Every configuration key is also a flag: --section.key VALUE overrides the file.
"""

from pathlib import Path

from maskfold.config.cli import Parser, add_config_flags, config_overrides
from maskfold.config.place_flags import add_cache_flags, places_of
from maskfold.errors import UserError


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path, help="configuration of the experiment, such as configs/demo.yaml")
    parser.add_argument("--fold", type=int, default=0, help="number of the fold whose photos are used (default: 0)")
    parser.add_argument("--min-lr", type=float, default=1e-7, help="first learning rate (default: 1e-7)")
    parser.add_argument("--max-lr", type=float, default=10.0, help="last learning rate (default: 10)")
    parser.add_argument("--updates", type=int, default=100, metavar="N", help="number of updates (default: 100)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="PNG file for the figure (default: find-lr-<name of the file>.png)"
    )
    add_cache_flags(parser)
    add_config_flags(parser)
    args = parser.parse_args()
    cache = places_of(args).cache
    out = Path(f"find-lr-{args.file.stem}.png") if args.out is None else args.out
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: not a .png file; give a name that ends in .png")

    from maskfold.config.yaml_file import load_config
    from maskfold.fileio import check_output, write_atomic

    config = load_config(args.file, config_overrides(args))
    check_output(out.parent, "--out", out)
    from maskfold.search.lr_figure import lr_figure
    from maskfold.search.lr_range_test import LrRange, lr_range_test
    from maskfold.search.lr_suggestion import suggest_lr

    curve = lr_range_test(config, LrRange(args.min_lr, args.max_lr, args.updates, args.fold), cache)
    suggestion = suggest_lr(curve)
    figure = lr_figure(curve, suggestion, f"Learning-rate range test: {args.file.stem}, fold {args.fold}")
    write_atomic(out, lambda temporary: figure.savefig(temporary, dpi=110))
    if curve.diverged:
        print(f"the loss diverged at a learning rate of {curve.lrs[-1]:.2g}")
    else:
        print(f"the loss did not diverge up to a learning rate of {curve.lrs[-1]:.2g}; --max-lr sets a higher one")
    print(f"lowest smoothed loss: {curve.smoothed.min():.3f} at {suggestion.lowest:.2g}")
    print(f"steepest descent of the smoothed loss: at {suggestion.steepest:.2g}")
    flags = f"--optim.lr {suggestion.lr:.2g}"
    if config.optim.head_lr is not None:
        flags += f" --optim.head_lr {suggestion.lr * config.optim.head_lr / config.optim.lr:.2g}"
    print(f"suggestion: {flags} ({suggestion.rule})")
    print(f"figure: {out}")
