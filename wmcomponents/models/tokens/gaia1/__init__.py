"""GAIA-1: text, image and action in one sequence, of which images are foretold."""
