"""Worlds of tokens and a transformer."""
