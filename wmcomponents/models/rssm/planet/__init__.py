"""PlaNet (Hafner et al., 2019)."""
