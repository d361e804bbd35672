"""Blend runs into a submission: their fold models' probabilities over folds, views and runs, joined and decided.

Or rebuild one from its manifest (--from), or put the board's score of one on record (--record NAME SCORE).
"""

from pathlib import Path

from maskfold.config.cli import Parser


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="*", help="run folders, or their names")
    parser.add_argument("--tta", nargs="+", metavar="VIEW", help="views to average, such as none hflip (default: none)")
    parser.add_argument(
        "--tta-report", action="store_true", help="show what each view is worth out-of-fold (default: not)"
    )
    parser.add_argument(
        "--blend",
        choices=("mean", "oof", "logloss"),
        help="weights of the runs: equal, or chosen out-of-fold for macro F1 or log loss (default: mean)",
    )
    parser.add_argument(
        "--decision",
        choices=("argmax", "macro-f1"),
        help="the most probable label, or factors chosen out-of-fold for macro F1 (default: argmax)",
    )
    parser.add_argument("--out", type=Path, help="the CSV to write (default: submissions/<runs>.csv)")
    parser.add_argument("--from", dest="manifest", type=Path, help="rebuild this manifest's submission (default: none)")
    parser.add_argument(
        "--record", nargs=2, metavar=("NAME", "SCORE"), help="what the board said of a submission (default: none)"
    )
    args = parser.parse_args()
    if sum(map(bool, (args.runs, args.manifest, args.record))) != 1:
        parser.error("give runs, or --from MANIFEST, or --record NAME SCORE")
    if not args.runs and any((args.tta, args.tta_report, args.blend, args.decision)):
        parser.error("--tta, --tta-report, --blend and --decision are for runs: a manifest keeps its own")
    tta, way = args.tta or ["none"], args.blend or "mean"

    from maskfold.evaluation.members import decision_sentence, print_blends, print_members
    from maskfold.evaluation.score_tables import expected_sentence, gain_sentence, interval
    from maskfold.evaluation.tta_report import print_tta_report
    from maskfold.inference.rebuild import rebuild
    from maskfold.inference.submission import make_submission, submissions_root
    from maskfold.inference.submission_index import record_score
    from maskfold.runs.run_folder import RunFolder, find_run

    if args.record:
        name, score = Path(args.record[0]), args.record[1]
        folder = submissions_root() if name.parent == Path() else name.parent
        print("\n".join(record_score(folder, name.name.removesuffix(".csv"), score)))
        return
    if args.manifest:
        print(f"rebuilt, the same byte for byte: {rebuild(args.manifest, args.out)}")
        return

    runs = [RunFolder(find_run(given)) for given in args.runs]
    out = args.out or submissions_root() / f"{'+'.join(member.name for member in runs)}.csv"
    if args.tta_report:
        print_tta_report(runs, tta)
    manifest, blend, told = make_submission(runs, tta, out, way, args.decision or "argmax")
    expected, oof = manifest["expected"], blend.oof
    if len(runs) > 1:
        weights, temperatures = manifest["weights"], manifest["temperatures"]
        print_members([r.name for r in runs], blend.cross_fitted, oof.label, oof.person_id, weights, temperatures)
        print_blends(blend.member_probs, oof.label, oof.person_id, {way: blend.cross_fitted})
    if blend.decision_gain is not None:
        print(decision_sentence(blend.decision_gain))
    bounds = interval(expected["macro_f1_ci95"])
    print(f"out-of-fold macro F1 of this blend {expected['macro_f1']:.4f}, 95 % interval {bounds}")
    print(expected_sentence(expected))
    print(gain_sentence(expected["mean_of_folds"], len(manifest["members"][0]["folds"])))
    print("\n".join(told), end="\n" if told else "")
    print(f"submission: {out} (manifest: {out.with_suffix('.json')})")
