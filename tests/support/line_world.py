"""A world in which what an action is worth can be told by hand."""

import torch
from torchrl.data import Composite, Unbounded

from wmcomponents import Prediction, WorldModel
from wmcomponents.codecs import ActionVector


class Walk(WorldModel):
    """A place on a line that an action moves: nearness to one half pays; of choices, the first one pays."""

    def __init__(self, action_spec, features=True, reward=True):
        place = Composite(place=Unbounded(1))
        super().__init__(
            observation_spec=Composite(observation=Unbounded(1)), action_spec=action_spec, state_spec=place
        )
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.action_vector = ActionVector(action_spec)
        self.lacks = {name for name, has in (("features", features), ("reward", reward)) if not has}

    @property
    def capabilities(self):
        return super().capabilities - self.lacks

    def observe(self, state, action, observation, is_init, noise):
        return {"place": observation["observation"].clone()}

    def imagine(self, state, action, noise):
        vector = self.action_vector(action)
        if vector.shape[-1] == 1:
            place = 0.5 * state["place"] + self.gain * vector
            return Prediction({"place": place}, -(place - 0.5).square(), torch.full_like(place, 0.9))
        place = 0.5 * state["place"]
        return Prediction({"place": place}, self.gain * vector[..., :1], torch.ones_like(place))

    def features(self, state):
        return torch.cat([state["place"], torch.ones_like(state["place"])], -1)
