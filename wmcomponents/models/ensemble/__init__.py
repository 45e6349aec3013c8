"""Ensembles: models made of several members, which can disagree."""
