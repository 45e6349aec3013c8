"""LWM: words, images and actions in one sequence."""
