"""Worlds of a recurrent state-space model."""
