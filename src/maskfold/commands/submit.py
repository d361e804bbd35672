"""Blend runs into a submission: average probabilities over fold models, TTA views and runs, then choose labels.

With --from, rebuild a submission from its manifest instead. With --record NAME SCORE, record a leaderboard score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maskfold.config.choices import dict_names
from maskfold.config.cli import Parser
from maskfold.config.ensemble_flags import add_runs_folder_flag, add_tta_flag
from maskfold.config.place_flags import add_cache_flags, add_data_flags, places_of
from maskfold.places import Places

if TYPE_CHECKING:
    from maskfold.runs.run_folder import RunFolder


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="*", help="run folders, or names under runs/")
    add_tta_flag(parser)
    parser.add_argument(
        "--tta-report", action="store_true", help="print the out-of-fold gain of each TTA view (default: no)"
    )
    parser.add_argument(
        "--blend",
        choices=dict_names("inference/ensemble_weights.py", "BLENDS"),
        help="weights of the runs: equal, or fitted out-of-fold for macro F1 or log loss (default: mean)",
    )
    parser.add_argument(
        "--decision",
        choices=dict_names("inference/decision.py", "DECISIONS"),
        help="argmax: the most probable label; macro-f1: the same after multiplication by class factors, fitted "
        "out-of-fold (default: argmax)",
    )
    parser.add_argument("--out", type=Path, help="submission CSV to write (default: submissions/<runs>.csv)")
    parser.add_argument(
        "--from", dest="manifest", type=Path, help="rebuild the submission of this manifest (.json) (default: none)"
    )
    parser.add_argument(
        "--record",
        nargs=2,
        metavar=("NAME", "SCORE"),
        help="record the leaderboard score of a submission (default: none)",
    )
    add_runs_folder_flag(parser)
    add_data_flags(parser)
    add_cache_flags(parser)
    args = parser.parse_args()
    places = places_of(args)
    if sum(map(bool, (args.runs, args.manifest, args.record))) != 1:
        parser.error("give runs, or --from MANIFEST, or --record NAME SCORE")
    if not args.runs and any((args.tta, args.tta_report, args.blend, args.decision)):
        parser.error("--tta, --tta-report, --blend and --decision apply to runs only; remove them")
    if args.runs_folder and not args.manifest:
        parser.error("--runs applies to --from only; remove it")
    if args.record:
        from maskfold.inference.submission_index import record_score, submissions_root

        name, score = Path(args.record[0]), args.record[1]
        folder = submissions_root() if name.parent == Path() else name.parent
        print("\n".join(record_score(folder, name.name.removesuffix(".csv"), score)))
    elif args.manifest:
        from maskfold.inference.rebuild import rebuild

        print(f"rebuilt, byte for byte identical: {rebuild(args.manifest, args.out, args.runs_folder, places)}")
    else:
        options = BlendOptions(args.tta or ["none"], args.blend or "mean", args.decision or "argmax", args.tta_report)
        run_submit(args.runs, places, args.out, options)


@dataclass(frozen=True)
class BlendOptions:
    """How runs are blended: the TTA views, the weights, the decision; tta_report: print the gain of each view first."""

    tta: Sequence[str] = ("none",)
    blend: str = "mean"
    decision: str = "argmax"
    tta_report: bool = False


def run_submit(paths: Sequence[Path], places: Places, out: Path | None, options: BlendOptions) -> Path:
    """Write the submission of runs and return its path. An up-to-date one is rewritten only for a TTA report.

    paths: run folders, or names under runs/. out: the CSV, None for submissions/<runs>.csv.
    """
    from maskfold.inference.submission_index import submissions_root
    from maskfold.inference.unchanged_inputs import is_unchanged_submission
    from maskfold.runs.run_folder import RunFolder, find_run

    runs = [RunFolder(find_run(path), places) for path in paths]
    out = out or submissions_root() / f"{'+'.join(run.name for run in runs)}.csv"
    unchanged = is_unchanged_submission(runs, options.tta, out, options.blend, options.decision)
    if unchanged and not options.tta_report:
        print(f"submission: {out} is up to date (manifest: {out.with_suffix('.json')})")
    else:
        _write_submission(runs, out, options)
    return out


def _write_submission(runs: "Sequence[RunFolder]", out: Path, options: BlendOptions) -> None:
    """Make a submission, and print its members, warnings and expected score."""
    from maskfold.evaluation.members import decision_sentence, print_blends, print_members
    from maskfold.evaluation.score_tables import expected_sentence, gain_sentence, submission_sentence
    from maskfold.evaluation.tta_report import print_tta_report
    from maskfold.inference.submission import make_submission
    from maskfold.metrics.score_text import ci_text

    if options.tta_report:
        print_tta_report(runs, options.tta)
    manifest, blend, messages = make_submission(runs, options.tta, out, options.blend, options.decision)
    expected, oof = manifest["expected"], blend.oof
    if len(runs) > 1:
        print_members([run.name for run in runs], blend.cross_fitted, oof, blend.params)
        print_blends(blend.member_probs, oof.label, oof.person_id, {options.blend: blend.cross_fitted})
    if blend.decision_gain is not None:
        print(decision_sentence(blend.decision_gain))
    print(submission_sentence(expected))
    print("\n".join(messages), end="\n" if messages else "")
    bounds = ci_text(expected["macro_f1_ci95"])
    print(f"out-of-fold macro F1 of this blend {expected['macro_f1']:.4f}, 95 % interval {bounds}")
    print(expected_sentence(expected))
    if (gain := expected["mean_of_folds"]) is not None:
        print(gain_sentence(gain, len(manifest["members"][0]["folds"])))
    print(f"submission: {out} (manifest: {out.with_suffix('.json')})")
