"""EfficientZero (Ye et al., 2021)."""
