"""Predictors of features: the next frame's tokens out of those before it and the actions."""
