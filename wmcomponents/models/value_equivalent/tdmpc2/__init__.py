"""TD-MPC2 (Hansen et al., 2024)."""
