"""Processes with a level for each row or frame; parts of diffusion transformers: embeddings, blocks, the last layer."""
