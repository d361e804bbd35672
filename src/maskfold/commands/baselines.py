"""Score simple baselines on the folds of an experiment; a trained model has to beat them.

The baselines are the most frequent class, the nearest class mean image and, with model.weights or model.pretrained,
logistic regression on frozen features of the backbone. Every configuration key is also a flag: --section.key VALUE
overrides the file.
"""

from pathlib import Path

from maskfold.config.cli import Parser, add_config_flags, config_overrides
from maskfold.config.place_flags import add_cache_flags, places_of


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path, help="configuration of the experiment, such as configs/resnet18.yaml")
    parser.add_argument("--out", type=Path, help="file for the scores (default: baselines.json in the prepared folder)")
    add_cache_flags(parser)
    add_config_flags(parser)
    args = parser.parse_args()
    cache = places_of(args).cache

    from maskfold.config.yaml_file import load_config

    config = load_config(args.file, config_overrides(args))
    from maskfold.evaluation.score_tables import print_baselines
    from maskfold.evaluation.simple_models import score_baselines

    path, scores = score_baselines(config, args.out, cache)
    print_baselines(scores)
    if not (config.model.weights or config.model.pretrained):
        print("no logistic regression without pretrained weights; give --model.weights FILE or --model.pretrained true")
    if path is not None:
        print(f"baselines: {path}")
