"""DIAMOND (Alonso et al., 2024)."""
