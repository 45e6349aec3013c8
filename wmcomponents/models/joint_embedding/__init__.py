"""Models that predict representations."""
