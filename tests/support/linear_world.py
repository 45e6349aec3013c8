"""A linear world with quadratic costs, whose best plan is known in closed form."""

import torch
from torchrl.data import Bounded, Composite, Unbounded

from wmcomponents import Prediction, WorldModel


class LinearWorld(WorldModel):
    """A mass on a line that an action pushes: what is paid is minus its squared place, speed and push."""

    PUSH = 0.1

    def __init__(self, low=-1.0, high=1.0):
        super().__init__(
            observation_spec=Composite(observation=Unbounded(2)),
            action_spec=Bounded(low, high, (1,)),
            state_spec=Composite(motion=Unbounded(2)),
        )
        self.center, self.radius = (low + high) / 2, (high - low) / 2
        self.register_buffer("step", torch.tensor([[1.0, 0.5], [0.0, 0.9]]))
        self.register_buffer("push", torch.tensor([[0.1], [0.4]]))

    @property
    def capabilities(self):
        return super().capabilities - {"continue"}

    def observe(self, state, action, observation, is_init, noise):
        return {"motion": observation["observation"].clone()}

    def imagine(self, state, action, noise):
        push = (action - self.center) / self.radius
        motion = state["motion"] @ self.step.T + push @ self.push.T
        cost = motion.square().sum(-1, keepdim=True) + self.PUSH * push.square()
        return Prediction({"motion": motion}, -cost, None)

    def features(self, state):
        return state["motion"].clone()

    def best(self, motion, horizon):
        """The pushes ``[B, H, 1]`` with the least cost from ``[B, 2]``, bounds aside: least squares."""
        reach, free = [], []
        power = torch.eye(2)
        impulses = []
        for _ in range(horizon):
            impulses.insert(0, power @ self.push)
            power = self.step @ power
            reach.append(torch.cat([*impulses, *[torch.zeros(2, 1)] * (horizon - len(impulses))], 1))
            free.append(power)
        a, b = torch.cat(reach), torch.cat(free)
        gram = a.T @ a + self.PUSH * torch.eye(horizon)
        return -torch.linalg.solve(gram, a.T @ b @ motion.T).T.unsqueeze(-1)
