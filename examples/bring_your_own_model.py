"""A world model written from scratch: a point mass on a line. Three functions and four specs join every adapter."""

import torch
from torchrl.data import Bounded, Composite, Unbounded

from wmcomponents.world_model import Prediction, WorldModel


class PointMass(WorldModel):
    """x'' = a, with a reward for standing at the origin; it ends beyond |x| = 3."""

    def __init__(self) -> None:
        super().__init__(
            observation_spec=Composite(observation=Unbounded(2)),
            action_spec=Bounded(-1, 1, (1,)),
            state_spec=Composite(point=Unbounded(2)),
            noise_spec=Composite(),
        )

    def observe(self, state, action, observation, is_init, noise):
        return {"point": observation["observation"].clone()}

    def imagine(self, state, action, noise):
        x, v = state["point"].unbind(-1)
        v = v + 0.1 * action.squeeze(-1)
        x = x + 0.1 * v
        alive = (x.abs() < 3.0).float().unsqueeze(-1)
        return Prediction({"point": torch.stack([x, v], -1)}, -x.square().unsqueeze(-1), alive)

    def decode(self, state):
        return {"observation": state["point"].clone()}


if __name__ == "__main__":
    from wmcomponents.testing import check_world_model

    check_world_model(PointMass())
    print("PointMass meets the protocol")
