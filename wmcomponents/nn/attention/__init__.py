"""Attention, transformers, positions."""
