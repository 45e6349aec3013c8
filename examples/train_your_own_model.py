"""A learned world model of your own: s' = s + MLP(s, a) on vector observations, trained, saved and loaded."""

from dataclasses import dataclass

import torch
from torch import nn
from torchrl.data import Composite, Unbounded

from wmcomponents.data import action_spec, collect, make_env, make_replay, observation_spec
from wmcomponents.nn import MLP
from wmcomponents.pretrained import PretrainedModel
from wmcomponents.training import Trainer
from wmcomponents.world_model import Prediction


@dataclass(frozen=True)
class ResidualConfig:
    """Sizes."""

    units: int = 64
    layers: int = 2


class Residual(PretrainedModel):
    """The observation is the state; a network predicts its change and the reward."""

    config_class = ResidualConfig

    def __init__(self, config, observation_spec, action_spec):
        key = next(iter(observation_spec.keys()))
        size = observation_spec[key].shape[-1]
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            state_spec=Composite(vector=Unbounded(size)),
        )
        self.config, self.key, self.size = config, key, size
        self.body = MLP(size + action_spec.shape[-1], config.units, config.layers)
        self.out = nn.Linear(config.units, size + 1)

    @property
    def capabilities(self):
        return super().capabilities - {"continue"}  # it predicts no end: dream with termination="off"

    def observe(self, state, action, observation, is_init, noise):
        return {"vector": observation[self.key].clone()}

    def imagine(self, state, action, noise):
        x = torch.cat([state["vector"], action.to(state["vector"].dtype)], -1)
        change, reward = self.out(self.body(x)).split([self.size, 1], -1)
        return Prediction({"vector": state["vector"] + change}, reward, None)

    def decode(self, state):
        return {self.key: state["vector"].clone()}

    def objective(self):
        return OneStepLoss(self)


class OneStepLoss(nn.Module):
    """Squared error of the next observation and the reward."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, sequences):
        now = {"vector": sequences[self.model.key]}
        state, reward, _ = self.model.imagine(now, sequences["action"], None)
        error = state["vector"] - sequences["next", self.model.key]
        return {
            "loss_state": error.square().sum(-1).mean(),
            "loss_reward": (reward - sequences["next", "reward"]).square().mean(),
        }


if __name__ == "__main__":
    env = make_env("Pendulum-v1", seed=0)
    replay = make_replay(2_000, env, sequence_length=16, batch_size=16, seed=0)
    collect(env, replay, 1_000, seed=0)
    model = Residual(ResidualConfig(), observation_spec(env), action_spec(env))
    print(Trainer(model, replay, lr=1e-3, warmup=10).train(200))
    model.save_pretrained("residual", starts={"vector": replay[:256]["observation"]})
