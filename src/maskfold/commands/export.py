"""Export a run for other programs: model.onnx, a folder for timm per model, check.json and a model card.

Only the run folder is needed, no data. model.onnx contains normalisation, all models and TTA views, and returns the
same probabilities as PyTorch, which is checked. An older export at --out is replaced once the new one is complete.
"""

from pathlib import Path

from maskfold.config.cli import Parser
from maskfold.config.ensemble_flags import add_tta_flag


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder, or name under runs/")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--folds",
        nargs="+",
        metavar="FOLD",
        help="numbers of the folds to export, and full for the refit (default: all finished models)",
    )
    add_tta_flag(parser, default=["none"])
    parser.add_argument(
        "--temperature",
        default="1",
        metavar="T",
        help="temperature that scales the probabilities, or oof to fit it on the out-of-fold predictions (default: 1)",
    )
    parser.add_argument(
        "--half",
        action="store_true",
        help="store the weights as fp16: half the size, converted at load (default: fp32)",
    )
    args = parser.parse_args()

    from maskfold.export.run_export import ExportRequest, check_packages, export_run
    from maskfold.runs.run_folder import RunFolder, find_run

    check_packages()
    request = ExportRequest(args.folds, args.tta, args.half, args.temperature)
    print("\n".join(export_run(RunFolder(find_run(args.run)), args.out, request)))
    print(f"export: {args.out}")
