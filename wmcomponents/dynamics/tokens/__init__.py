"""Transformers over tokens as dynamics."""
