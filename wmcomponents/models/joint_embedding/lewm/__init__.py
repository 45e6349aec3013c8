"""LeWorldModel: end to end from pixels, held to a normal distribution (Maes et al., 2026)."""
