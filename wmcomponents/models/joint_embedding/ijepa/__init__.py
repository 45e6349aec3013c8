"""I-JEPA: features of hidden blocks of an image (Assran et al., 2023)."""
