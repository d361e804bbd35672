#!/usr/bin/env python
"""The label audit on models of several strengths: false proposals on correct labels, or planted label errors found.

Trains the configuration once per number of epochs: on the labels as they are, which must be correct, or on labels with
planted errors. Runs that exist are not trained again. Prints one row per run and axis as a Markdown table.

    python benchmarks/audit_strength.py configs/demo.yaml --epochs 1 2 3 6 10 20
    python benchmarks/audit_strength.py configs/demo.yaml --epochs 20 --genders 8 --exchanges 4
"""

from pathlib import Path

import numpy as np
import pandas as pd

from maskfold.audit.class_separation import separation
from maskfold.audit.label_noise import CORRECTABLE_AXES, find_suspects
from maskfold.config.cli import Parser, add_config_flags, config_overrides, run
from maskfold.config.experiment import Config, replaced
from maskfold.config.yaml_file import load_config
from maskfold.data.corrections import CORRECTION_COLUMNS, SWAPS
from maskfold.data.images_table import Prepared
from maskfold.data.prepared_folder import ensure_prepared
from maskfold.errors import UserError
from maskfold.fileio import write_atomic
from maskfold.labels import GENDERS, decode_label
from maskfold.probabilities import OutOfFold, load_predictions
from maskfold.training.fit import fit_run

HEADER = "| run | people | axis | accuracy | separation | judged | rate | proposed | planted | first | correct |"


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path, help="configuration of the experiment")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2, 3, 6, 10, 20], help="epochs of each model")
    parser.add_argument("--genders", type=int, default=0, help="wrong genders to plant (default: none)")
    parser.add_argument("--exchanges", type=int, default=0, help="exchanges of photos to plant (default: none)")
    parser.add_argument("--prefix", default="audit", help="prefix of the names of the runs (default: %(default)s)")
    add_config_flags(parser)
    args = parser.parse_args()
    config = load_config(args.file, config_overrides(args))
    prepared = ensure_prepared(config.data)
    planted: dict[str, np.ndarray] = {axis: np.array([], str) for axis in CORRECTABLE_AXES}
    name = f"{args.prefix}-{config.seed}"
    if args.genders or args.exchanges:
        planted = sample_errors(prepared, args.genders, args.exchanges, config.seed)
        name += "-planted"
        config = with_errors(config, prepared, planted, Path(f"{name}.csv"))
    print(HEADER + "\n|" + "---|" * HEADER.count(" |"), flush=True)
    for epochs in args.epochs:
        run_name = f"{name}-{epochs}"
        folder, _ = fit_run(replaced(config, optim=warmed_up(config, epochs)), run_name)
        oof = load_predictions(folder.folder / "oof.npz", out_of_fold=True)
        print("\n".join(table_rows(run_name, oof, planted)), flush=True)


def warmed_up(config: Config, epochs: int) -> dict:
    """Values of optim: the number of epochs, and a warm-up of at most half of it."""
    return {"epochs": epochs, "warmup_epochs": min(config.optim.warmup_epochs, epochs / 2)}


def sample_errors(prepared: Prepared, num_genders: int, num_exchanges: int, seed: int) -> dict[str, np.ndarray]:
    """Sample the people whose labels are made wrong, by axis; nobody has two errors."""
    people = np.random.default_rng(seed).permutation(prepared.people.person_id.to_numpy(str))
    if num_genders + num_exchanges > len(people):
        raise UserError(f"--genders, --exchanges: there are only {len(people)} people; plant fewer errors")
    return {"gender": people[:num_genders], "mask": people[num_genders : num_genders + num_exchanges]}


def with_errors(config: Config, prepared: Prepared, planted: dict[str, np.ndarray], path: Path) -> Config:
    """Write the errors as a corrections file; return a configuration that applies it in another prepared folder."""
    gender = prepared.people.set_index("person_id").gender
    rows = [(person, "gender", GENDERS[1 - GENDERS.index(gender[person])], "planted") for person in planted["gender"]]
    rows += [(person, "swap", SWAPS[0], "planted") for person in planted["mask"]]
    table = pd.DataFrame(rows, columns=CORRECTION_COLUMNS)
    write_atomic(path, lambda temporary: table.to_csv(temporary, index=False))
    folder = prepared.folder.with_name(f"{prepared.folder.name}-{path.stem}")
    return replaced(config, data={"prepared": folder, "corrections": path})


def table_rows(name: str, oof: OutOfFold, planted: dict[str, np.ndarray]) -> list[str]:
    """Return one row per axis. first: planted errors among the first 2 N suspects, if N errors were planted; correct:
    planted errors among the proposals."""
    suspects, fits = find_suspects(oof)
    labels, predictions = decode_label(oof.label), decode_label(oof.pred_labels)
    accuracy = {"mask": np.mean(labels[0] == predictions[0]), "gender": np.mean(labels[1] == predictions[1])}
    rows = []
    for axis in CORRECTABLE_AXES:
        table, fit, wrong = suspects[suspects.axis == axis], fits[axis], planted[axis]
        is_wrong = table.person_id.isin(wrong)
        cells = [name, len(table), axis, f"{accuracy[axis]:.3f}", f"{separation(table.margin.to_numpy()):.2f}"]
        cells += ["no", ""] if fit.unfitted_reason else ["yes", f"{fit.rate:.1%}" if np.isfinite(fit.rate) else ""]
        cells += [f"{table.proposed.sum()} ({table.proposed.mean():.1%})", len(wrong)]
        cells += [is_wrong[table["rank"] <= 2 * len(wrong)].sum(), (is_wrong & table.proposed).sum()]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return rows


if __name__ == "__main__":
    run(main)
