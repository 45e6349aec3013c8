"""DreamerV3 as its preprint of 2023 describes it (Hafner et al., 2023)."""
