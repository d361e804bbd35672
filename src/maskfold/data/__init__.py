"""From the raw data folder to tables of photos, labels and folds."""
