"""Measure the expected score of a submission where the true score is known.

simulate: sets of simulated people and models, whose errors are shared by the models or their own, of a person or of a
photo. Prints for each setting the gain of the mean of the fold models, the signed error of the estimate, the coverage
of its interval and its width relative to board95.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from maskfold.inference.expected_score import EvalPredictions, LabelledPredictions, expect_score
from maskfold.labels import KIND_MASK, encode_label, joint_log_probs
from maskfold.metrics.bootstrap import Resampling, score_intervals
from maskfold.metrics.scores import macro_f1

NUM_FOLDS, NUM_PHOTOS = 5, len(KIND_MASK)
# Frequencies of mask, gender and age group, as in the competition.
FREQUENCIES = ((5 / 7, 1 / 7, 1 / 7), (0.38, 0.62), (0.47, 0.45, 0.08))


@dataclass(frozen=True)
class Setting:
    """Simulated models: standard deviations of the errors of the evidence, and how strong the evidence is.

    signal: by axis; shared_person, own_person: errors on all photos of a person, by all models or by one;
    shared_photo, own_photo: errors on a photo; overconfidence: factor on the logits; balanced: whether the models have
    learnt equal class frequencies.
    """

    signal: tuple[float, float, float]
    shared_person: float
    shared_photo: float
    own_person: float
    own_photo: float
    overconfidence: float = 1.5
    balanced: bool = False


SETTINGS = {
    "equal models": Setting((5, 3, 1.6), 1.0, 0.7, 0, 0),
    "similar models": Setting((5, 3, 1.8), 1.0, 0.7, 0.4, 0.4),
    "different models": Setting((5, 3, 2.0), 0.8, 0.5, 0.8, 0.8, overconfidence=2.0),
    "very different models": Setting((5, 3, 2.2), 0.3, 0.3, 1.3, 1.3, overconfidence=1.0),
    "balanced sampling": Setting((5, 3, 2.0), 0.8, 0.5, 0.6, 0.6, balanced=True),
}


def simulate_people(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Mask, gender and age group of each photo, int [count, 7] each."""
    gender, age = (rng.choice(len(values), count, p=values) for values in FREQUENCIES[1:])
    mask = np.tile(list(KIND_MASK.values()), (count, 1))
    return [mask, np.repeat(gender[:, None], NUM_PHOTOS, 1), np.repeat(age[:, None], NUM_PHOTOS, 1)]


def simulate_log_probs(rng: np.random.Generator, axes: list[np.ndarray], setting: Setting, models: int) -> np.ndarray:
    """Log-probabilities of `models` models, float [models, people x 7, 18]."""
    people, by_axis = len(axes[0]), []
    for index, (values, frequencies) in enumerate(zip(axes, FREQUENCIES, strict=True)):
        size = len(frequencies)
        evidence = setting.signal[index] * np.eye(size)[values][None]
        variance = setting.shared_photo**2 + setting.own_photo**2
        evidence = evidence + setting.shared_photo * rng.normal(size=(1, people, NUM_PHOTOS, size))
        evidence = evidence + setting.own_photo * rng.normal(size=(models, people, NUM_PHOTOS, size))
        # Whether a mask is worn differs between the photos of a person, so its errors do too.
        if index:
            variance += setting.shared_person**2 + setting.own_person**2
            evidence = evidence + setting.shared_person * rng.normal(size=(1, people, 1, size))
            evidence = evidence + setting.own_person * rng.normal(size=(models, people, 1, size))
        log_prior = np.zeros(size) if setting.balanced else np.log(frequencies)
        logits = setting.overconfidence * (setting.signal[index] * evidence / variance + log_prior)
        by_axis.append(log_softmax(logits, axis=-1).reshape(-1, size))
    return joint_log_probs(*by_axis).reshape(models, people * NUM_PHOTOS, -1)


def simulate_set(rng: np.random.Generator, setting: Setting, train_people: int, eval_people: int) -> dict[str, float]:
    """Simulate a training set and an eval set; return true and expected score, and what else is compared."""
    axes = simulate_people(rng, train_people)
    labels = encode_label(*(values.ravel() for values in axes))
    people = np.repeat(np.arange(train_people), NUM_PHOTOS)
    probs = np.exp(simulate_log_probs(rng, axes, setting, NUM_FOLDS))[people % NUM_FOLDS, np.arange(len(people))]
    oof = LabelledPredictions(probs, probs.argmax(1), labels, people)

    axes = simulate_people(rng, eval_people)
    eval_labels = encode_label(*(values.ravel() for values in axes))
    fold_probs = np.exp(simulate_log_probs(rng, axes, setting, NUM_FOLDS))
    unlabelled = EvalPredictions(fold_probs, fold_probs.argmax(2), fold_probs.mean(0).argmax(1))

    resampling = Resampling(count=500)
    expected = expect_score(oof, unlabelled, eval_people, resampling)
    board = score_intervals(labels, oof.pred_labels, people, eval_people, resampling)["board95"]
    score = macro_f1(eval_labels, unlabelled.pred_labels)
    single = np.mean([macro_f1(eval_labels, pred_labels) for pred_labels in unlabelled.fold_pred_labels])
    low, high = expected.interval95
    return {
        "score": score,
        "gain": score - float(single),
        "expected_gain": expected.gain,
        "error": expected.macro_f1 - score,
        "covered": low <= score <= high,
        "board_covered": board[0] <= score <= board[1],
        "gain_error": expected.gain_std_error,
        "width": high - low,
        "board_width": board[1] - board[0],
    }


def simulate(sets: int, train_people: int, eval_people: int, seed: int) -> None:
    """Print a row for each setting."""
    print(f"{sets} sets of {train_people} + {eval_people} people for each setting, {NUM_FOLDS} folds")
    print(
        "setting | score | gain | expected gain | error +- SE | covered | by board95 | width / board95 | "
        "SE of the gain: estimated, measured"
    )
    for name, setting in SETTINGS.items():
        rng = np.random.default_rng(seed)
        rows = [simulate_set(rng, setting, train_people, eval_people) for _ in range(sets)]
        means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        error = float(np.std([row["error"] for row in rows], ddof=1) / np.sqrt(sets))
        spread = float(np.std([row["expected_gain"] - row["gain"] for row in rows], ddof=1))
        print(
            f"{name} | {means['score']:.4f} | {means['gain']:.4f} | {means['expected_gain']:.4f} | "
            f"{means['error']:+.4f} +- {error:.4f} | {means['covered']:.1%} | {means['board_covered']:.1%} | "
            f"{means['width'] / means['board_width']:.2f} | {means['gain_error']:.4f}, {spread:.4f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=500, help="number of simulated sets (default: 500)")
    parser.add_argument(
        "--people", type=int, nargs=2, default=(600, 400), help="training and eval people (default: 600 400)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the first set (default: 0)")
    args = parser.parse_args()
    simulate(args.sets, *args.people, args.seed)


if __name__ == "__main__":
    main()
