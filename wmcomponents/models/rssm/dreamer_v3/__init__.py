"""DreamerV3 (Hafner et al., 2025)."""
