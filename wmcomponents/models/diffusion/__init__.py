"""Worlds that are denoised frame by frame."""
