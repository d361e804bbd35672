"""From decoded photos to augmented, mixed batches."""
