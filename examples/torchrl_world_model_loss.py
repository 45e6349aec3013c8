"""TorchRL's WorldModel and WorldModelLoss around this library's parts: those of TD-MPC2, on CartPole."""

import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.modules import WorldModel
from torchrl.objectives import WorldModelLoss

from wmcomponents.data import collect, make_env, make_replay, observation_spec
from wmcomponents.dynamics import SimNormDynamics
from wmcomponents.encoders import SimNormEncoder
from wmcomponents.heads import BernoulliHead, MSEHead

LATENT, UNITS = 64, 64

env = make_env("CartPole-v1", seed=0)
replay = make_replay(5_000, env, sequence_length=8, batch_size=32, seed=0)
collect(env, replay, 1_000, seed=0)

encoder = SimNormEncoder(observation_spec(env), LATENT, UNITS)


@torch.no_grad()
def encode_target(observation):
    """What the dynamics are to predict: the next observation's latent, held fixed."""
    return encoder.compute(observation)


def join(latent, action):
    """Latent and action, one-hot, as one vector."""
    return torch.cat([latent, action.to(latent.dtype)], -1)


dynamics = TensorDictSequential(
    TensorDictModule(join, in_keys=["latent", "action"], out_keys=["state_action"]),
    SimNormDynamics(LATENT + 2, LATENT, UNITS, out_keys=[("next", "latent")]),
    TensorDictModule(encode_target, in_keys=[("next", "observation")], out_keys=["target_latent"]),
)
reads = {"units": UNITS, "in_keys": [("next", "latent")]}
model = WorldModel(
    encoder,
    dynamics,
    reward_head=MSEHead(LATENT, out_keys=["reward_raw", ("next", "reward")], **reads),
    done_head=BernoulliHead(LATENT, out_keys=["done_logits", ("next", "done")], **reads),
    decoder=MSEHead(LATENT, UNITS, out_features=4, in_keys=["latent"], out_keys=["raw", "reconstructed_observation"]),
)
loss = WorldModelLoss(model, losses=["reward", "done", "reconstruction", "latent"], latent_weight=20.0)
loss.set_keys(predicted_latent=("next", "latent"))
optimizer = torch.optim.Adam(model.parameters(), 1e-3)

for update in range(101):
    losses = loss(replay.sample())
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()
    if update % 50 == 0:
        print({key: round(term.item(), 4) for key, term in losses.items()})
