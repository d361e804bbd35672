"""Score the ladder of baselines on an experiment's folds: what a trained net has to beat.

The most frequent class; the nearest class mean image; logistic regression on the frozen ImageNet features of the
experiment's backbone (where it has model.weights or model.pretrained). Every key is a flag, as for train.py.
"""

from pathlib import Path

from maskfold.config.cli import Parser, add_config_flags, config_flags


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path, help="the experiment, a YAML such as configs/resnet18.yaml")
    add_config_flags(parser)
    args = parser.parse_args()

    from maskfold.config.config_file import load_config

    config = load_config(args.file, config_flags(args))
    from maskfold.evaluation.baselines import score_baselines
    from maskfold.evaluation.score_tables import print_baselines

    path, found = score_baselines(config)
    print_baselines(found)
    if not (config.model.weights or config.model.pretrained):
        print("no ImageNet weights, no logistic regression: give --model.weights FILE or --model.pretrained true")
    print(f"baselines: {path}")
