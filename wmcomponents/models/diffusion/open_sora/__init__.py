"""Open-Sora as a world (2024, 2025): films of latents by rectified flow, of which some frames are given."""
