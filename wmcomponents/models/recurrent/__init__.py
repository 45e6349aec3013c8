"""Worlds of a recurrent network over encoded frames."""
