"""Genie: worlds that are played by codes of what changes, learned from films without actions."""
