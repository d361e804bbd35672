"""Backbone, head, losses, targets and TTA views."""
