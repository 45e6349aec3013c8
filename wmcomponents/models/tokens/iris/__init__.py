"""IRIS (Micheli et al., 2023)."""
