"""From fold models to a submission."""
