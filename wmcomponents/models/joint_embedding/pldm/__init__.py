"""PLDM: planning with latent dynamics that are kept from collapsing by variances (Sobal et al., 2025)."""
