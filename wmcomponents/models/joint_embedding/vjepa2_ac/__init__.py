"""V-JEPA 2-AC: features of frames under steps of a gripper (Assran et al., 2025)."""
