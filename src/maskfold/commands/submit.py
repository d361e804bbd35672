"""Blend runs into a submission: average probabilities over fold models, TTA views and runs, then choose labels.

It can also rebuild a submission from its manifest (--from), or record a leaderboard score (--record NAME SCORE).
"""

from pathlib import Path

from maskfold.config.choices import dict_names
from maskfold.config.cli import Parser
from maskfold.config.place_flags import add_cache_flags, add_data_flags, places_of


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="*", help="run folders, or names under runs/")
    parser.add_argument(
        "--tta", nargs="+", metavar="VIEW", help="TTA views to average, such as none hflip (default: none)"
    )
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
    parser.add_argument(
        "--runs",
        dest="runs_folder",
        type=Path,
        metavar="DIR",
        help="folder that holds the runs for --from (default: the paths in the manifest, or runs/)",
    )
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
    tta, blend_method = args.tta or ["none"], args.blend or "mean"

    from maskfold.evaluation.members import decision_sentence, print_blends, print_members
    from maskfold.evaluation.score_tables import expected_sentence, gain_sentence, submission_sentence
    from maskfold.evaluation.tta_report import print_tta_report
    from maskfold.inference.rebuild import rebuild
    from maskfold.inference.submission import make_submission, submissions_root
    from maskfold.inference.submission_index import record_score
    from maskfold.metrics.score_text import ci_text
    from maskfold.runs.run_folder import RunFolder, find_run

    if args.record:
        name, score = Path(args.record[0]), args.record[1]
        folder = submissions_root() if name.parent == Path() else name.parent
        print("\n".join(record_score(folder, name.name.removesuffix(".csv"), score)))
        return
    if args.manifest:
        print(f"rebuilt, byte for byte identical: {rebuild(args.manifest, args.out, args.runs_folder, places)}")
        return

    runs = [RunFolder(find_run(run), places) for run in args.runs]
    out = args.out or submissions_root() / f"{'+'.join(run.name for run in runs)}.csv"
    if args.tta_report:
        print_tta_report(runs, tta)
    manifest, blend, messages = make_submission(runs, tta, out, blend_method, args.decision or "argmax")
    expected, oof = manifest["expected"], blend.oof
    if len(runs) > 1:
        print_members([run.name for run in runs], blend.cross_fitted, oof, blend.params)
        print_blends(blend.member_probs, oof.label, oof.person_id, {blend_method: blend.cross_fitted})
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
