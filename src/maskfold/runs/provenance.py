"""provenance.json: the data, the configuration and the code with which a run was started."""

import hashlib
from pathlib import Path

from maskfold.config.experiment import Config, config_hash
from maskfold.data.images_table import Prepared
from maskfold.fileio import read_json, sha256
from maskfold.format_version import KEY, RUN, check_format
from maskfold.json_record import check_record
from maskfold.runs.code_state import code_state
from maskfold.runs.run_records import Provenance


def read_provenance(folder: Path) -> dict:
    """Read provenance.json: data and config hashes, number of eval people, git commit, versions and threads.

    Read this file before the other files of a run, because it contains the format version. Raises UserError if it is
    missing, damaged or of a newer format.
    """
    path, fix = folder / "provenance.json", "start the run again with --fresh"
    content = read_json(path, fix)
    check_format(path, content, RUN, fix)
    check_record(path, content, Provenance, fix)
    return content


def provenance_of(config: Config, text: str, prepared: Prepared, threads: int) -> dict:
    """The content of provenance.json. text: the text of config.yaml; threads: CPU threads per process."""
    content = {KEY: RUN, "dataset": prepared.meta["fingerprint"], "identity": prepared.identity}
    content["eval_people"] = prepared.num_eval_people
    content |= {"config_hash": config_hash(config), "config_sha256": hashlib.sha256(text.encode()).hexdigest()}
    if weights := weights_hashes(config):
        content["weights"] = weights
    return content | code_state() | {"threads": threads}


def weights_hashes(config: Config) -> dict[str, str]:
    """{key: SHA-256} of the model.weights file and of a local-dir backbone's files; config_hash covers only names."""
    hashes = {}
    if config.model.weights is not None and config.model.weights.is_file():
        hashes["model.weights"] = sha256(config.model.weights)
    prefix, _, folder = config.model.backbone.partition(":")
    if prefix == "local-dir" and Path(folder).is_dir():
        files = sorted(path for path in Path(folder).iterdir() if path.is_file())
        lines = "".join(f"{path.name} {sha256(path)}\n" for path in files)
        hashes["model.backbone"] = hashlib.sha256(lines.encode()).hexdigest()
    return hashes


def changed_weights(provenance: dict, config: Config) -> list[str]:
    """A message for each key whose weights files have changed since the run was started."""
    before = provenance.get("weights", {})
    changed = [key for key, value in weights_hashes(config).items() if before.get(key, value) != value]
    return [f"{key}: the content of {getattr(config.model, key.partition('.')[2])} has changed" for key in changed]
