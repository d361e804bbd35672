"""Backbones, heads and losses."""
