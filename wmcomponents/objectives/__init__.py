"""What is minimised: one LossModule a paper."""
