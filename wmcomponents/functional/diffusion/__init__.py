"""Diffusion and flows of any data, independent of the network that denoises."""
