"""Vision transformers: patches, positions on their grid, blocks, pooling, presets."""
