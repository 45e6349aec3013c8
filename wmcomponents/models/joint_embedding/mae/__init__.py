"""MAE: pixels of hidden patches (He et al., 2022)."""
