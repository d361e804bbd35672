"""Check the raw data folder and make the prepared folder: tables of photos, labels and folds."""
