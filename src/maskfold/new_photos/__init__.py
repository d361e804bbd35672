"""Predict photos that belong to no prepared data, with the models of finished runs."""
