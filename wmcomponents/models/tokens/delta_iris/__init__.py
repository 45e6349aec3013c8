"""Delta-IRIS (Micheli et al., 2024)."""
