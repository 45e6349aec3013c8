"""A world of numbered states, with a value and a prior in tables: what searches are compared on."""

import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from wmcomponents.world_model import Prediction, WorldModel


class TabularWorld(WorldModel):
    """State i and action a lead to ``next[i, a]`` with ``reward[i, a]`` and ``cont[i, a]``."""

    def __init__(self, following, reward, cont=None, to_play=None):
        states, actions = following.shape
        spec = {"index": Bounded(0, states - 1, (1,), dtype=torch.int64)}
        if to_play is not None:
            spec["to_play"] = Bounded(0, 1, (1,), dtype=torch.int64)
        super().__init__(
            observation_spec=Composite(observation=Unbounded(1)),
            action_spec=OneHot(actions),
            state_spec=Composite(spec),
        )
        self.following, self.rewards, self.cont = following.long(), reward, cont
        self.to_play = to_play

    @property
    def capabilities(self):
        return super().capabilities - (set() if self.cont is not None else {"continue"})

    def at(self, index):
        """States of these indices, [B, ...]."""
        state = {"index": index.reshape(-1, 1).long()}
        if self.to_play is not None:
            state["to_play"] = self.to_play[state["index"]]
        return state

    def observe(self, state, action, observation, is_init, noise):
        return {key: value.clone() for key, value in state.items()}

    def imagine(self, state, action, noise):
        here, chosen = state["index"], action.long().argmax(-1, keepdim=True)
        after = self.at(self.following[here, chosen])
        cont = None if self.cont is None else self.cont[here, chosen]
        after = {key: value.reshape(here.shape) for key, value in after.items()}
        return Prediction(after, self.rewards[here, chosen], cont)


def table(values):
    """A function of states that reads a table: [B, n], or [B, 1] of a column."""
    return lambda state: values[state["index"].squeeze(-1)].reshape(len(state["index"]), -1)


def world_of(vectors, discount):
    """A world of a golden vector's tables, what its search reads of it, and the states at its root."""
    ends = vectors.get("in.discount")
    cont = None if ends is None else (ends > 0).float()
    model = TabularWorld(vectors["in.next"], vectors["in.reward"], cont)
    parts = {"prior": table(vectors["in.logits"]), "value": table(vectors["in.value"]), "discount": discount}
    return model, parts, model.at(vectors["in.root_state"])
