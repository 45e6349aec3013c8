"""TorchRL's DreamerActorLoss and DreamerValueLoss (Dreamer V1) imagine in a dream of this library, of Pendulum."""

import torch
from tensordict import TensorDict
from tensordict.nn import NormalParamExtractor, TensorDictModule
from torch import nn
from torchrl.modules import ProbabilisticActor, TanhNormal
from torchrl.objectives import DreamerActorLoss, DreamerValueLoss

from wmcomponents.data import action_spec, collect, make_env, make_replay, observation_spec
from wmcomponents.dream import ReplayStarts
from wmcomponents.heads import MSEHead
from wmcomponents.integrations.torchrl import TorchRLStatelessDreamEnv
from wmcomponents.models import DreamerV3, DreamerV3Config
from wmcomponents.training import Trainer

env = make_env("Pendulum-v1", seed=0)
replay = make_replay(5_000, env, sequence_length=16, batch_size=16, seed=0)
collect(env, replay, 1_000, seed=0)
model = DreamerV3(DreamerV3Config.tiny(latent="gaussian"), observation_spec(env), action_spec(env))
Trainer(model, replay, lr=1e-3, warmup=10).train(50)
model.requires_grad_(False)  # the losses hold out what belongs to the environment; a dream owns no model
starts = ReplayStarts(model, replay.sample, pool_size=256, burn_in=8)


class ImaginationEnv(TorchRLStatelessDreamEnv):
    """Begins where it is told to; the losses call the sampled part of a state "state", whatever its key is."""

    def reset(self, tensordict=None, **kwargs):
        if tensordict is None:
            return super().reset(**kwargs)
        return super().reset(tensordict.rename_key_("state", "stoch"), set_state=True, **kwargs)


size = model.dynamics.feat_size
net = nn.Sequential(nn.Linear(size, 64), nn.ELU(), nn.Linear(64, 2), NormalParamExtractor())
policy = TensorDictModule(net, in_keys=["latent"], out_keys=["loc", "scale"])
bounds = {"low": -2.0, "high": 2.0}
actor = ProbabilisticActor(policy, ["loc", "scale"], distribution_class=TanhNormal, distribution_kwargs=bounds)
critic = MSEHead(size, 64, in_keys=["latent"], out_keys=["raw_value", "state_value"])
actor_loss = DreamerActorLoss(actor, critic, ImaginationEnv(model, starts=starts, termination="off"))
actor_loss.set_keys(belief="deter")
actor_loss.make_value_estimator(gamma=0.99, lmbda=0.95)
value_loss = DreamerValueLoss(critic)
optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], 1e-3)
generator = torch.Generator().manual_seed(0)

for update in range(21):
    state = TensorDict(starts.sample(64, generator), batch_size=[64])
    acted, dreamt = actor_loss(state.rename_key_("stoch", "state"))
    valued, _ = value_loss(dreamt)
    optimizer.zero_grad()
    (acted["loss_actor"] + valued["loss_value"]).backward()
    optimizer.step()
    if update % 10 == 0:
        print(dreamt.shape, acted["loss_actor"].item(), valued["loss_value"].item())
