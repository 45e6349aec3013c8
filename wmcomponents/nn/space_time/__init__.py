"""Transformers over films: attention within a frame, attention along time, and what their papers put between them."""
