"""STORM (Zhang et al., 2023)."""
