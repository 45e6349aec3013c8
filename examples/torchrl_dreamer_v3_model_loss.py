"""TorchRL's DreamerV3ModelLoss trains a world model made of this library's parts, here on Pendulum."""

import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.objectives import DreamerV3ModelLoss

from wmcomponents.data import action_spec, collect, make_env, make_replay, observation_spec
from wmcomponents.functional import symexp
from wmcomponents.models import DreamerV3, DreamerV3Config

env = make_env("Pendulum-v1", seed=0)
replay = make_replay(5_000, env, sequence_length=32, batch_size=16, seed=0)
collect(env, replay, 1_000, seed=0)
model = DreamerV3(DreamerV3Config.tiny(vectors="symlog"), observation_spec(env), action_spec(env))
rssm, groups = model.dynamics, model.dynamics.latent.shape


def observe(seen, action, is_init):
    """Filter as TorchRL lays sequences out: the action at t leads to the observation under ``next``."""
    noise = torch.rand(*action.shape[:2], *rssm.latent.noise_shape)
    embed, state = model.encoder.compute(seen), rssm.initial_state(action.shape[:1])
    deter, stoch, raw = rssm.observe_sequence(*state, model.action_vector(action), embed, is_init, noise)
    return deter, stoch, raw.unflatten(-1, groups), rssm.prior(deter).unflatten(-1, groups)


def predict(deter, stoch):
    """What the heads say; of the observation its plain value, of which the loss takes the symlog again."""
    feat = rssm.features(deter, stoch)
    seen = symexp(model.decoder.raw(deter, stoch)["observation"])
    return seen, *model.reward_head.compute(feat), model.continue_head.raw(feat)


states = [("next", key) for key in ("deter", "stoch", "posterior_logits", "prior_logits")]
heads = [("next", key) for key in ("reco_pixels", "reward_logits", "reward", "continue_pred")]
world = TensorDictSequential(
    TensorDictModule(observe, in_keys=[("next", "observation"), "action", "is_init"], out_keys=states),
    TensorDictModule(predict, in_keys=states[:2], out_keys=heads),
)
loss = DreamerV3ModelLoss(world, kl_mode="separate", unimix=0.01, lambda_continue=1.0)
loss.set_keys(pixels="observation")
optimizer = torch.optim.Adam(model.parameters(), 1e-3)

for update in range(41):
    losses, _ = loss(replay.sample())
    optimizer.zero_grad()
    sum(term.sum() for key, term in losses.items() if key.startswith("loss_")).backward()
    optimizer.step()
    if update % 20 == 0:
        print({key: round(term.item(), 3) for key, term in losses.items()})
