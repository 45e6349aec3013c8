"""JEPA-WM: features of a frozen encoder under actions that set the norms (Terver et al., 2025)."""
