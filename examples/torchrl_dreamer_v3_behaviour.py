"""TorchRL's DreamerV3ActorLoss and DreamerV3ValueLoss imagine in a dream of this library, here of Pendulum."""

import torch
from tensordict import TensorDict
from tensordict.nn import NormalParamExtractor, TensorDictModule
from torch import nn
from torchrl.modules import ProbabilisticActor, TanhNormal
from torchrl.objectives import DreamerV3ActorLoss, DreamerV3ValueLoss, SoftUpdate

from wmcomponents.data import action_spec, collect, make_env, make_replay, observation_spec
from wmcomponents.dream import ReplayStarts
from wmcomponents.heads import TwoHotHead
from wmcomponents.integrations.torchrl import TorchRLStatelessDreamEnv
from wmcomponents.models import DreamerV3, DreamerV3Config
from wmcomponents.training import Trainer

env = make_env("Pendulum-v1", seed=0)
replay = make_replay(5_000, env, sequence_length=16, batch_size=16, seed=0)
collect(env, replay, 1_000, seed=0)
model = DreamerV3(DreamerV3Config.tiny(), observation_spec(env), action_spec(env))
Trainer(model, replay, lr=1e-3, warmup=10).train(50)
model.requires_grad_(False)  # the losses hold out what belongs to the environment; a dream owns no model
starts = ReplayStarts(model, replay.sample, pool_size=256, burn_in=8)


class ImaginationEnv(TorchRLStatelessDreamEnv):
    """Begins where it is told to: the losses pass states of replayed sequences to ``reset`` and say no more."""

    def reset(self, tensordict=None, **kwargs):
        return super().reset(tensordict, set_state=tensordict is not None, **kwargs)


size = model.dynamics.feat_size
net = nn.Sequential(nn.Linear(size, 64), nn.SiLU(), nn.Linear(64, 2), NormalParamExtractor())
policy = TensorDictModule(net, in_keys=["latent"], out_keys=["loc", "scale"])
bounds = {"low": -2.0, "high": 2.0}
actor = ProbabilisticActor(policy, ["loc", "scale"], distribution_class=TanhNormal, distribution_kwargs=bounds)
critic = TwoHotHead(size, 64, in_keys=["latent"], out_keys=["state_value_logits", "state_value"])
goes_on = TensorDictModule(lambda feat: model.continue_head.compute(feat)[1], ["latent"], ["continuation"])

imagination = ImaginationEnv(model, starts=starts, termination="off")
actor_loss = DreamerV3ActorLoss(actor, critic, imagination, continuation_model=goes_on)
actor_loss.set_keys(state="stoch", belief="deter")
actor_loss.make_value_estimator(gamma=0.997, lmbda=0.95)
value_loss = DreamerV3ValueLoss(critic, "two_hot", actor_loss=actor_loss, slow_critic_regularization=1.0)
target = SoftUpdate(value_loss, tau=0.02)
optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], 1e-3)
generator = torch.Generator().manual_seed(0)

for update in range(21):
    state = TensorDict(starts.sample(64, generator), batch_size=[64])
    acted, dreamt = actor_loss(state)
    valued, _ = value_loss(dreamt)
    optimizer.zero_grad()
    (acted["loss_actor"] + valued["loss_value"]).backward()
    optimizer.step()
    target.step()
    if update % 10 == 0:
        print(dreamt.shape, acted["loss_actor"].item(), valued["loss_value"].item())
