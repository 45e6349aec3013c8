"""TorchRL's DreamerModelLoss (Dreamer V1) trains a world model made of this library's parts, here on Pendulum."""

import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.objectives import DreamerModelLoss

from wmcomponents.data import collect, make_env, make_replay
from wmcomponents.decoders import MLPDecoder
from wmcomponents.dynamics import RSSM, DenseGRUCell, GaussianLatent, Prior, RecurrentPosterior
from wmcomponents.encoders import MLPEncoder
from wmcomponents.heads import MSEHead
from wmcomponents.nn import ResetAfterGRU

env = make_env("Pendulum-v1", seed=0)
replay = make_replay(5_000, env, sequence_length=32, batch_size=16, seed=0)
collect(env, replay, 1_000, seed=0)

state, style = [("next", "deter"), ("next", "stoch")], {"norm": "none", "act": "elu"}
encoder = MLPEncoder(3, units=64, layers=2, in_keys=[("next", "observation")], **style)
latent = GaussianLatent(30)
rssm = RSSM(
    DenseGRUCell(latent.size, action=1, gru=ResetAfterGRU(64, 128)),
    latent,
    Prior(128, latent.params, 64, layers=1, **style),
    RecurrentPosterior(128, encoder.out_features, latent.params, 64, layers=1, **style),
)
decoder = MLPDecoder(128, latent.shape, {"seen": 3}, units=64, layers=2, in_keys=state, out_keys=["seen"], **style)
reward = MSEHead(rssm.feat_size, units=64, layers=2, out_keys=["raw", ("next", "reward")], **style)


def observe(action, embed, is_init):
    """Filter as TorchRL lays sequences out: the action at t leads to the observation under ``next``."""
    noise = torch.randn(*action.shape[:2], *latent.noise_shape)
    begin = rssm.initial_state(action.shape[:1])
    deter, stoch, raw = rssm.observe_sequence(*begin, action, embed, is_init, noise)
    return deter, stoch, rssm.features(deter, stoch), *latent.mean_std(rssm.prior(deter)), *latent.mean_std(raw)


def as_image(x):
    """The loss sums squared errors over three dimensions, those of images; a vector needs two more."""
    return x[..., None, None]


moments = [("next", f"{of}_{moment}") for of in ("prior", "posterior") for moment in ("mean", "std")]
filtering = TensorDictModule(observe, in_keys=["action", "embed", "is_init"], out_keys=[*state, "feat", *moments])
seen = TensorDictModule(as_image, in_keys=[("next", "observation")], out_keys=[("next", "pixels")])
said = TensorDictModule(as_image, in_keys=["seen"], out_keys=[("next", "reco_pixels")])
# The loss looks for the decoder at the end of the first part, and for the reward in the second.
world = TensorDictSequential(TensorDictSequential(encoder, filtering, decoder, seen, said), reward)
loss = DreamerModelLoss(world, free_nats=1)
parameters = [p for part in (encoder, rssm, decoder, reward) for p in part.parameters()]
optimizer = torch.optim.Adam(parameters, 1e-3)

for update in range(41):
    losses, _ = loss(replay.sample())
    optimizer.zero_grad()
    sum(term.sum() for key, term in losses.items() if key.startswith("loss_")).backward()
    optimizer.step()
    if update % 20 == 0:
        print({key: round(term.item(), 3) for key, term in losses.items()})
