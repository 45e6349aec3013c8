"""Training that can be stopped at any moment and resumed to the bit."""
