"""Whole world models: one file a paper, assembled from parts, with its frozen config and size presets."""
