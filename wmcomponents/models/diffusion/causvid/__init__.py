"""CausVid (Yin et al., 2024): a video model that sees both ways, distilled into a causal one of a few steps."""
