"""Dense and recurrent layers, norms, activations, initialisers."""
