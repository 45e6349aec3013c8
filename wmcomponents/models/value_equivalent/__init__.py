"""Worlds that predict rewards and values and show nothing."""
