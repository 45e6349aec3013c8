"""DINO-WM: features of a frozen encoder, predicted patch by patch (Zhou et al., 2025)."""
