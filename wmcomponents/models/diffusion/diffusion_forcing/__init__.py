"""Diffusion Forcing (Chen et al., 2024): a noise level for each frame of a film."""
