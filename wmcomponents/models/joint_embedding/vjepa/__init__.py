"""V-JEPA and V-JEPA 2: features of hidden tubes of a clip (Bardes et al., 2024; Assran et al., 2025)."""
