"""Dreamer (Hafner et al., 2020)."""
