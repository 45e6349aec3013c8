"""The world-model losses of the official agent, on the official weights."""

import torch
from torchrl.data import Bounded, Composite, OneHot

from tests.support.golden_dreamerv3 import torch_state
from tests.support.golden_vectors import load
from wmcomponents.decoders import MultiDecoder
from wmcomponents.dynamics import RSSM
from wmcomponents.encoders import MultiEncoder
from wmcomponents.heads import BernoulliHead, TwoHotHead
from wmcomponents.models import DreamerV3Config, DreamerV3LossConfig, DreamerV3ModelLoss, RSSMWorldModel
from wmcomponents.objectives.arrivals import Arrivals

NAME = "v3_full_agent_loss_disc_image"


class OfficialSizes(RSSMWorldModel):
    """The reference agent's world model, put together here as its encoder and decoder have other channel factors."""

    config_class = DreamerV3Config

    def __init__(self, c: dict) -> None:
        spec = Composite(image=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8))
        encoder = MultiEncoder.dreamer_v3(
            spec, units=c["units"], layers=c["layers"], depth=c["depth"], mults=c["enc_mults"]
        )
        rssm = RSSM.block_gru(
            embed=encoder.out_features,
            action=5,
            deter=c["deter"],
            hidden=c["hidden"],
            groups=c["stoch"],
            classes=c["classes"],
            blocks=c["blocks"],
        )
        decoder = MultiDecoder.dreamer_v3(
            spec,
            c["deter"],
            (c["stoch"], c["classes"]),
            units=c["units"],
            layers=c["layers"],
            depth=c["depth"],
            mults=c["dec_mults"],
            blocks=c["bspace"],
        )
        super().__init__(
            observation_spec=spec,
            action_spec=OneHot(5),
            encoder=encoder,
            dynamics=rssm,
            decoder=decoder,
            reward_head=TwoHotHead(rssm.feat_size, c["units"], bins=c["bins"]),
            continue_head=BernoulliHead(rssm.feat_size, c["units"]),
            discount=1 - 1 / c["horizon"],
        )


def reference():
    meta, tensors = load(NAME)
    config = meta["config"]
    model = OfficialSizes(config)
    parts = {
        "enc": model.encoder,
        "dyn": model.dynamics,
        "dec": model.decoder,
        "rew": model.reward_head,
        "con": model.continue_head,
    }
    for name, part in parts.items():
        part.load_state_dict(torch_state(tensors, name), strict=True)
    first = tensors["in/obs/is_first"].bool().unsqueeze(-1)
    arrivals = Arrivals(
        observation={"image": tensors["in/obs/image"]},
        action=torch.nn.functional.one_hot(tensors["in/prevact"].long(), 5),
        is_init=first,
        reward=tensors["in/obs/reward"].unsqueeze(-1),
        terminated=tensors["in/obs/is_terminal"].bool().unsqueeze(-1),
        reward_known=torch.ones_like(first),
        weight=torch.ones(first.shape[:-1]),
        real=torch.ones(first.shape[:-1], dtype=torch.bool),
    )
    state = {"deter": tensors["in/deter0"], "stoch": tensors["in/stoch0"]}
    objective = DreamerV3ModelLoss(model, DreamerV3LossConfig(free_nats=config["free_nats"]))
    return meta, tensors, model, objective, arrivals, state


def test_every_term_equals_the_official_one():
    meta, tensors, _, objective, arrivals, state = reference()
    losses, _ = objective.terms(arrivals, state, None)
    official = {"dyn": "dyn", "rep": "rep", "reward": "rew", "continue": "con", "reconstruction": "image"}
    scales = meta["config"]["loss_scales"]
    for ours, theirs in official.items():
        scale = scales.get(theirs, scales["rec"])
        torch.testing.assert_close(losses[ours], scale * tensors[f"out/loss/{theirs}"], **meta["tolerance"])


def test_the_filter_reaches_the_official_states():
    meta, tensors, model, _, arrivals, state = reference()
    states = model.observe_sequence(state, arrivals.action, arrivals.observation, arrivals.is_init, None)
    for key in ("deter", "stoch"):
        torch.testing.assert_close(states[key], tensors[f"out/feat/{key}"], **meta["tolerance"])


def test_gradient_norms_of_the_decoder_equal_the_official_ones():
    # Only the decoder and these heads are trained by the world-model losses alone; the rest also by the replay value.
    meta, tensors, model, objective, arrivals, state = reference()
    losses, _ = objective.terms(arrivals, state, None)
    sum(value.mean() for value in losses.values()).backward()
    official = torch_state(tensors, "dec", "out/gradnorm/")
    for name, parameter in model.decoder.named_parameters():
        torch.testing.assert_close(parameter.grad.norm().reshape(1), official[name].reshape(1), **meta["tolerance"])
    for module, part in (("con", model.continue_head), ("rew", model.reward_head)):
        official = torch_state(tensors, module, "out/gradnorm/")
        for name, parameter in part.named_parameters():
            torch.testing.assert_close(parameter.grad.norm().reshape(1), official[name].reshape(1), **meta["tolerance"])
