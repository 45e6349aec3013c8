"""Thin adapters, one outside library a file; importing this package imports none of them."""
