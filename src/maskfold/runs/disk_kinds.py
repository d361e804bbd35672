"""The kinds of files that can be deleted from runs and prepared folders."""

# The kind that stands for a whole run folder. All other kinds stand for some files in a run or in prepared data.
WHOLE_RUN = "runs"
# {kind: description}, in the order of the table and of the flags of clean.py.
KINDS = {
    "states": "checkpoints and saved epoch weights of unfinished folds, whose training then starts again from the "
    "first epoch",
    "caches": "cached predictions of runs and cached features; they are computed again",
    "stores": "decoded photos in prepared folders; they are built again from the raw data",
    "weights": "weights of the fold models and of the refit; they have to be trained again",
    "wandb": "local files of W&B runs",
    "temporary": "files that killed processes left behind",
}
