"""MuZero (Schrittwieser et al., 2020)."""
