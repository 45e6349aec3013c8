"""Oasis (Decart and Etched, 2024): latents of a vision transformer, and a transformer over films of them."""
