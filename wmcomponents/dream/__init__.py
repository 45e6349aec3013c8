"""The simulator inside a world model: start states, batched stepping, differentiable imagination."""
