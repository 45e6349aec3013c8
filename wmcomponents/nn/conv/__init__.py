"""Convolutional stages, residual towers, U-Net, VQGAN, LPIPS."""
