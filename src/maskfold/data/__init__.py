"""From the raw folder to batches of photos."""
