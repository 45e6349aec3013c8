"""Parts of diffusion transformers: what tells them noise levels and conditions, their blocks, their last layer."""
