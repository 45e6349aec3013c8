"""The official DreamerV3 agent of the golden vectors: its world model, objective, and one batch."""

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
