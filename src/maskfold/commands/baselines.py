"""Score simple baselines on the folds of an experiment; a trained model has to beat them.

The baselines are the most frequent class, the nearest class mean image and, with model.weights or model.pretrained,
logistic regression on frozen features of the backbone. Every configuration key is also a flag: --section.key VALUE
overrides the file.
"""

from pathlib import Path

from maskfold.config.cli import Parser, add_config_flags, config_overrides


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path, help="configuration of the experiment, such as configs/resnet18.yaml")
    add_config_flags(parser)
    args = parser.parse_args()

    from maskfold.config.yaml_file import load_config

    config = load_config(args.file, config_overrides(args))
    from maskfold.evaluation.score_tables import print_baselines
    from maskfold.evaluation.simple_models import score_baselines

    path, scores = score_baselines(config)
    print_baselines(scores)
    if not (config.model.weights or config.model.pretrained):
        print("no logistic regression without pretrained weights; give --model.weights FILE or --model.pretrained true")
    print(f"baselines: {path}")
