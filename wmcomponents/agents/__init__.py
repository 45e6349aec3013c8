"""Behaviour: actor-critics, planners, search."""
