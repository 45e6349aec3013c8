"""Densities, divergences and samples of the distributions that world models use."""
