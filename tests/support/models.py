"""Every model that is held to the whole contract: add one line to join."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded

from tests.support.parts import settle
from wmcomponents.dream import GoalReward, GoalWorldModel
from wmcomponents.functional import EDMSampler
from wmcomponents.heads import TwoHotHead
from wmcomponents.models import (
    AVID,
    DINOWM,
    GAIA1,
    IRIS,
    JEPA,
    JEPAWM,
    LWM,
    NWM,
    PLDM,
    STORM,
    TDMPC2,
    VJEPA2AC,
    AVIDConfig,
    CausVid,
    CausVidConfig,
    CDiTConfig,
    ConvAutoencoderConfig,
    DeltaIRIS,
    DeltaIRISConfig,
    Diamond,
    DiamondConfig,
    DiffusionForcing,
    DiffusionForcingConfig,
    DINOWMConfig,
    DreamerV1,
    DreamerV1Config,
    DreamerV2,
    DreamerV2Config,
    DreamerV3,
    DreamerV3Config,
    DreamerV3Preprint,
    DreamerV3PreprintConfig,
    EfficientZero,
    EfficientZeroConfig,
    Ensemble,
    FilmUNetConfig,
    FrozenEncoderConfig,
    GAIA1Config,
    Genie,
    GenieConfig,
    GenieRedux,
    GenieReduxConfig,
    GenieReduxG,
    GenieReduxGConfig,
    IRISConfig,
    JEPAConfig,
    JEPAWMConfig,
    JEPAWMNetworkConfig,
    LeWM,
    LeWMConfig,
    LWMConfig,
    MMDiTConfig,
    MuZero,
    MuZeroConfig,
    NWMConfig,
    Oasis,
    OasisConfig,
    OpenSora,
    OpenSoraConfig,
    PlaNet,
    PlaNetConfig,
    PLDMConfig,
    SpaceTimeDiTConfig,
    STDiT3Config,
    STORMConfig,
    TDMPC2Config,
    ViTAutoencoderConfig,
    VJEPA2ACConfig,
    VJEPA2ACNetworkConfig,
    WorldModels,
    WorldModelsConfig,
)
from wmcomponents.models.diffusion.diamond.config import DenoiserConfig, RewardEndConfig
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import WorldModel


def example(name: str) -> ModuleType:
    """A script of ``examples/`` as a module; by name too, for pickle and torch.compile."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).resolve().parents[2] / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


PointMass = example("bring_your_own_model").PointMass

VECTOR = Composite(observation=Unbounded(3))
MIXED = Composite(camera=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8), position=Unbounded(3))
PLANES = Composite(observation=Bounded(0, 1, (6, 6, 2), dtype=torch.bool))
IMAGE = Composite(pixels=Bounded(0, 255, (36, 36, 3), dtype=torch.uint8))
SCREEN = Composite(pixels=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8))
PORT = {"mixture": "vector", "channels": (4, 4, 4, 8), "decoder_channels": (16, 4, 4, 4), "hidden": 16}
WIDE = Composite(pixels=Bounded(0, 255, (52, 52, 3), dtype=torch.uint8))
TASKED = Composite(observation=Unbounded(3), task=Categorical(3))
TASKS = {"task_size": 4, "action_sizes": (2, 1, 2), "episode_lengths": (500, 100, 25)}


DIAMOND_LEVELS = {"cond": 8, "depths": (1,), "channels": (8,), "attends": (False,)}
DIAMOND_SIZES = DiamondConfig().vary(
    denoiser=DenoiserConfig(**DIAMOND_LEVELS),
    reward_end=RewardEndConfig(hidden=16, **DIAMOND_LEVELS),
    sampler=EDMSampler(steps=1),  # compiled as one graph, step by step
)
FORCING_SIZES = DiffusionForcingConfig.tiny(
    frames=2,
    unet=FilmUNetConfig(dim=4, multiples=(1,), heads=1, head_dim=4),
    reward_end=RewardEndConfig(hidden=16, **DIAMOND_LEVELS),
    steps=1,
)
AVID_SIZES = AVIDConfig.tiny(
    context=1,
    frames=1,
    base=FilmUNetConfig(dim=4, multiples=(1,), heads=1, head_dim=4),
    adapter=FilmUNetConfig(dim=4, multiples=(1,), heads=1, head_dim=4),
    reward_end=RewardEndConfig(hidden=8, **DIAMOND_LEVELS),
    steps=1,
)
CAUSVID_SIZES = CausVidConfig.tiny(
    frames=2,
    unet=FilmUNetConfig(dim=4, multiples=(1,), heads=1, head_dim=4),
    trained_steps=2,
    steps=2,
    solver_steps=2,
    reward_end=RewardEndConfig(hidden=8, **DIAMOND_LEVELS),
)
OASIS = {
    "frames": 4,
    "network.autoencoder": ViTAutoencoderConfig(8, 2, (16, 1, 1), (16, 1, 1), 1.0),
    "network.transformer": SpaceTimeDiTConfig(1, 16, 1, 2),
    "network.reward_end": RewardEndConfig(hidden=8, cond=8, channels=(8,), depths=(1,), attends=(False,)),
    "steps": 1,
}
NWM_SIZES = {
    "context": 2,
    "network.autoencoder": ConvAutoencoderConfig(latent=2, width=32, mults=(1, 1, 1), blocks=1, scale=1.0),
    "network.transformer": CDiTConfig(2, 16, 1, 2),
    "steps": 1,
    "goals": 2,
    "reach": 2,
}
NWM_OUTCOMES = {
    "reward_end": RewardEndConfig(hidden=8, cond=8, channels=(8,), depths=(1,), attends=(False,)),
}
OPEN_SORA = {
    "frames": 3,
    "autoencoder": ConvAutoencoderConfig(latent=2, width=32, mults=(1, 1), blocks=1, scale=1.0),
    "transformer": STDiT3Config(16, 1, 2, 2, 2, 3, 16.0),
    "reward_end": RewardEndConfig(hidden=8, cond=8, channels=(8,), depths=(1,), attends=(False,)),
    "steps": 1,
}
STREAMS = MMDiTConfig(16, 1, 1, 2, (4, 2, 2), 2, 2, 3)
SMALL = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))
WORDS = {
    "grid": 2,
    "vocabulary": 16,
    "code": 8,
    "latent_channels": 8,
    "layers": 2,
    "heads": 2,
    "dim": 16,
    "max_frames": 3,
}
FILM = {
    "frames": 3,
    "rounds": 2,
    "patch": 8,
    "vocabulary": 8,
    "code": 4,
    "blocks": 1,
    "dim": 8,
    "heads": 2,
    "head_dim": 4,
}
GENIE = {
    **{"encoder_dim": 8, "encoder_heads": 2, "decoder_dim": 8, "decoder_heads": 2},
    **{"actions": 3, "action_patch": 8, "action_code": 4, "action_dim": 8, "action_heads": 2},
}
OUTCOMES = {"outcome_blocks": 1, "outcome_dim": 8, "outcome_heads": 2}
TEXTS = {**WORDS, "hidden": 16, "text_vocabulary": 12, "spare": 2}
DRIVEN = {
    **{"downsampling": 8, "vocabulary": 16, "code": 8, "latent_channels": 8, "layers": 1, "heads": 2, "dim": 16},
    **{"text_tokens": 2, "text_width": 3, "max_frames": 3, "kept": 1},
}
CAPTIONED = Composite(pixels=Bounded(0, 255, (8, 16, 3), dtype=torch.uint8), text=Unbounded((2, 3)))
MIXED_TOKENS = {"groups": 4, "classes": 4, "units": 16, "heads": 2, "dim": 16, "positions": 4, "kept": 2, "bins": 31}
CHANGES = {
    "mults": (1,),
    "halves": (True,),
    "features": 2,
    "vocabulary": 16,
    "code": 8,
    "layers": 2,
    "heads": 2,
    "frame_features": 1,
    "max_blocks": 4,
}


def dreamer(*arguments) -> DreamerV3:
    """A DreamerV3 whose reward is not zero, as it is before training: its output layer begins at zero."""
    return rewarded(DreamerV3(*arguments))


def preprint(*arguments) -> DreamerV3Preprint:
    """Its preprint's model, whose reward begins at zero likewise, and whose initial state was learned."""
    model = rewarded(DreamerV3Preprint(*arguments))
    torch.nn.init.normal_(model.dynamics.initial.weight)
    return model


def rewarded(model):
    """The model with weights in its reward's output layer, and rewards of order one, as after training."""
    torch.nn.init.normal_(model.reward_head.out.weight, std=0.01)
    if isinstance(model.reward_head, TwoHotHead):
        settle(model.reward_head)
    return model


def tdmpc2(*arguments) -> TDMPC2:
    """A TD-MPC2 whose rewards and values are not zero, as they are before training."""
    model = TDMPC2(*arguments)
    torch.nn.init.normal_(model.reward_head.out.weight, std=0.01)
    torch.nn.init.normal_(model.q.out.weight, std=0.01)
    return model


def efficientzero(*arguments) -> EfficientZero:
    """An EfficientZero whose prefixes and values are not zero, as they are before training."""
    model = EfficientZero(*arguments)
    for net in (model.reward_head.fc, model.prediction.value):
        torch.nn.init.normal_([m for m in net.modules() if isinstance(m, torch.nn.Linear)][-1].weight, std=0.1)
    return model


def iris(*arguments) -> IRIS:
    """An IRIS with weights in the transformer that make it choose, and codes and images that rounding leaves alone.

    Before training the codes are as good as equal, and group norm makes a difference of their last digits.
    """
    model = IRIS(*arguments)
    torch.nn.init.normal_(model.tokenizer.quantizer.embedding.weight)
    with torch.no_grad():
        model.tokenizer.decoder.conv_out.weight.mul_(0.1)
        for parameter in model.dynamics.parameters():
            torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else None
    return model


def oasis(*arguments) -> Oasis:
    """An Oasis whose network says something, which it does not at first, and whose images rounding leaves alone."""
    model = Oasis(*arguments)
    with torch.no_grad():
        for parameter in model.network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        model.tokenizer.autoencoder.pixels.weight.mul_(0.1)
    return model


def nwm(*arguments) -> NWM:
    """An NWM whose network says something, which it does not at first, and whose images rounding leaves alone."""
    model = NWM(*arguments)
    with torch.no_grad():
        for parameter in model.network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        for parameter in model.network.out.parameters():  # a step from pure noise enlarges what it says 150 times
            parameter.mul_(0.01)
        model.tokenizer.autoencoder.decoder.conv_out.weight.mul_(0.1)
    return model


def open_sora(*arguments) -> OpenSora:
    """An Open-Sora whose network says something, which it does not at first, and whose images rounding leaves alone."""
    model = OpenSora(*arguments)
    with torch.no_grad():
        for parameter in model.network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        model.tokenizer.autoencoder.decoder.conv_out.weight.mul_(0.1)
    return model


def lwm(*arguments) -> LWM:
    """An LWM that chooses, and whose codes and images rounding leaves alone."""
    model = LWM(*arguments)
    torch.nn.init.normal_(model.tokenizer.quantizer.embedding.weight)
    with torch.no_grad():
        model.tokenizer.decoder.conv_out.weight.mul_(0.1)
        for parameter in model.dynamics.parameters():
            torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else None
    return model


def gaia1(*arguments) -> GAIA1:
    """A GAIA-1 that chooses, and whose codes and images rounding leaves alone."""
    model = GAIA1(*arguments)
    with torch.no_grad():
        model.tokenizer.decoder.conv_out.weight.mul_(0.1)
        for name, parameter in model.dynamics.named_parameters():
            torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 or "nothing" in name else None
    return model


def delta_iris(*arguments) -> DeltaIRIS:
    """A Delta-IRIS that chooses, and whose codes and images rounding leaves alone."""
    model = DeltaIRIS(*arguments)
    torch.nn.init.normal_(model.tokenizer.quantizer.codebook)
    with torch.no_grad():
        model.tokenizer.decoder[-1].weight.mul_(0.1)
        for parameter in model.dynamics.parameters():
            # Neither so large that every map of 64 numbers enlarges what the one before rounded, nor so small that
            # the norm of what a frame gives does.
            torch.nn.init.normal_(parameter, std={2: 0.15, 4: 0.3}[parameter.ndim]) if parameter.ndim > 1 else None
    return model


WINDOW_SIZES = {
    "latent": 8,
    "projection": 8,
    "network.depth": 1,
    "network.heads": 2,
    "head_dim": 4,
    "network.hidden": 8,
}
VIT_SIZES = {"images": "vit", "dim": 8, "encoder.depth": 1, "encoder.heads": 2, "encoder.hidden": 8}
DINO_SIZES = {
    "embedded": 2,
    "head_dim": 4,
    "network.depth": 1,
    "network.heads": 2,
    "network.hidden": 8,
    "encoder": FrozenEncoderConfig("timm", 4, 1, 2, 8, (8, 8), positions=(16, 16), size=()),
}
VJEPA2_AC_SIZES = {
    "network": VJEPA2ACNetworkConfig(frames=3, width=12, depth=1, heads=2, mlp_ratio=1.0),
    "encoder": FrozenEncoderConfig("vjepa2", 12, 1, 2, 8, (2, 8, 8), positions=(), size=(), mean=(0.5,), std=(0.25,)),
    "horizon": 2,
}
JEPA_WM_SIZES = {
    "network": JEPAWMNetworkConfig(frames=3, embedded=4, width=12, depth=1, heads=2, mlp_ratio=1.0),
    "encoder": FrozenEncoderConfig("timm", 4, 1, 2, 8, (8, 8), positions=(16, 16), size=()),
}
POSED = Composite(camera=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8), pose=Unbounded(7))


def film_world(model):
    """A world of a film's tokens that chooses, and whose pixels rounding leaves alone."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else None
    torch.nn.init.normal_(model.tokenizer.quantizer.codebook)
    return model


def denoising(model, *networks):
    """A world of diffusion over films whose frames are of order one, as after training."""
    with torch.no_grad():
        for network in networks or ("network",):
            for parameter in model.get_submodule(network).conv_out.parameters():
                parameter.mul_(0.1)
    return model


def lewm(*arguments) -> LeWM:
    """A LeWorldModel whose predictor listens to actions, which it does not before training."""
    model = LeWM(*arguments)
    with torch.no_grad():
        for parameter in model.predictor.parameters():
            torch.nn.init.normal_(parameter, std=0.2) if parameter.ndim > 1 else None
    return model


def reaching(model) -> GoalWorldModel:
    """A model of embeddings alone with a goal in its state, where its episodes end."""
    return GoalWorldModel(model, GoalReward(model, success=1e-6), ends=True)


MODELS: list[tuple[str, Callable[[], WorldModel]]] = [
    ("point-mass", PointMass),
    ("normal-noise-one-hot", lambda: ToyWorldModel(VECTOR, OneHot(3), noise="normal")),
    ("dict-observation", lambda: ToyWorldModel(MIXED, Bounded(-1, 1, (2,)), noise="uniform")),
    ("no-decoder", lambda: ToyWorldModel(VECTOR, Bounded(-2, 2, (2,)), parts=("features", "reward", "continue"))),
    ("categorical", lambda: ToyWorldModel(VECTOR, Categorical(4), noise="normal")),
    ("image", lambda: ToyWorldModel(IMAGE, OneHot(2), noise="uniform")),
    ("dreamer-v1", lambda: DreamerV1(DreamerV1Config.tiny(deter=32), VECTOR, OneHot(3))),
    ("dreamer-v1-image", lambda: DreamerV1(DreamerV1Config.tiny(mults=(1, 2)), IMAGE, Bounded(-2, 2, (2,)))),
    ("planet", lambda: PlaNet(PlaNetConfig.tiny(deter=32), VECTOR, Bounded(-2, 2, (2,)))),
    ("planet-dict", lambda: PlaNet(PlaNetConfig.tiny(mults=(1, 2)), MIXED, OneHot(3))),
    ("dreamer-v2", lambda: DreamerV2(DreamerV2Config.tiny(deter=32, rewards="tanh"), VECTOR, OneHot(3))),
    ("dreamer-v2-gaussian", lambda: DreamerV2(DreamerV2Config.tiny(latent="gaussian"), VECTOR, Bounded(-2, 2, (2,)))),
    ("dreamer-v2-image", lambda: DreamerV2(DreamerV2Config.tiny(mults=(1, 2)), IMAGE, OneHot(2))),
    ("dreamer-v3-preprint", lambda: preprint(DreamerV3PreprintConfig.tiny(deter=32), VECTOR, OneHot(3))),
    (
        "dreamer-v3-preprint-dict",
        lambda: preprint(DreamerV3PreprintConfig.tiny(mults=(1, 2)), MIXED, Bounded(-1, 1, (2,))),
    ),
    ("dreamer-v3", lambda: dreamer(DreamerV3Config.tiny(deter=32, blocks=4), VECTOR, OneHot(3))),
    ("dreamer-v3-gaussian", lambda: dreamer(DreamerV3Config.tiny(latent="gaussian"), VECTOR, Bounded(-2, 2, (2,)))),
    ("dreamer-v3-dict", lambda: dreamer(DreamerV3Config.tiny(mults=(1, 2)), MIXED, Bounded(-1, 1, (2,)))),
    ("world-models", lambda: WorldModels(WorldModelsConfig.tiny(hidden=16, begins=True), VECTOR, OneHot(3))),
    ("world-models-image", lambda: WorldModels(WorldModelsConfig.tiny(**PORT), SCREEN, Bounded(-2, 2, (2,)))),
    ("td-mpc2", lambda: tdmpc2(TDMPC2Config.tiny(), VECTOR, OneHot(3))),
    ("td-mpc2-image", lambda: tdmpc2(TDMPC2Config.tiny(latent=32, channels=8), WIDE, Bounded(-2, 2, (2,)))),
    ("td-mpc2-tasks", lambda: tdmpc2(TDMPC2Config.tiny(**TASKS), TASKED, Bounded(-1, 1, (2,)))),
    ("muzero", lambda: MuZero(MuZeroConfig.tiny(units=16), VECTOR, OneHot(3))),
    ("muzero-continuous", lambda: MuZero(MuZeroConfig.tiny(units=16, past=2), VECTOR, Bounded(-2, 2, (2,)))),
    ("muzero-two-players", lambda: MuZero(MuZeroConfig.tiny(channels=4, players=2), PLANES, OneHot(3))),
    ("muzero-dict", lambda: MuZero(MuZeroConfig.tiny(channels=4), MIXED, Bounded(-1, 1, (2,)))),
    ("muzero-image", lambda: MuZero(MuZeroConfig.tiny(channels=4, past=1), IMAGE, Categorical(3))),
    ("efficientzero", lambda: efficientzero(EfficientZeroConfig.tiny(units=16), VECTOR, OneHot(3))),
    ("efficientzero-continuous", lambda: efficientzero(EfficientZeroConfig.tiny(), VECTOR, Bounded(-2, 2, (2,)))),
    ("efficientzero-planes", lambda: efficientzero(EfficientZeroConfig.tiny(channels=4), PLANES, OneHot(3))),
    ("efficientzero-image", lambda: efficientzero(EfficientZeroConfig.tiny(channels=4, frames=3), IMAGE, OneHot(2))),
    ("iris", lambda: iris(IRISConfig.tiny(**WORDS), SMALL, OneHot(3))),
    ("delta-iris", lambda: delta_iris(DeltaIRISConfig.tiny(**CHANGES), SMALL, OneHot(3))),
    ("lwm", lambda: lwm(LWMConfig.tiny(**TEXTS), SMALL, OneHot(3))),
    ("gaia-1", lambda: reaching(gaia1(GAIA1Config.tiny(**DRIVEN), CAPTIONED, Bounded(-1, 1, (2,))))),
    ("storm", lambda: STORM(STORMConfig.tiny(**MIXED_TOKENS), VECTOR, OneHot(3))),
    ("storm-dict", lambda: STORM(STORMConfig.tiny(**MIXED_TOKENS, depth=4, mults=(1, 2)), MIXED, Bounded(-1, 1, (2,)))),
    ("ensemble", lambda: Ensemble.of(lambda: dreamer(DreamerV3Config.tiny(units=16, deter=16), VECTOR, OneHot(3)), 2)),
    ("diamond", lambda: Diamond(DIAMOND_SIZES, SMALL, OneHot(3))),
    ("diffusion-forcing", lambda: denoising(DiffusionForcing(FORCING_SIZES, SMALL, OneHot(3)))),
    ("avid", lambda: denoising(AVID(AVID_SIZES, SMALL, OneHot(3)), "base.network", "adapter.network")),
    ("causvid", lambda: denoising(CausVid(CAUSVID_SIZES, SMALL, OneHot(3)))),
    ("oasis", lambda: oasis(OasisConfig.tiny(**OASIS), SMALL, OneHot(3))),
    ("nwm", lambda: reaching(nwm(NWMConfig.tiny(**NWM_SIZES), SMALL, Bounded(-2, 2, (2,))))),
    ("nwm-outcomes", lambda: nwm(NWMConfig.tiny(**NWM_SIZES, **NWM_OUTCOMES), SMALL, Bounded(-2, 2, (2,)))),
    ("open-sora", lambda: open_sora(OpenSoraConfig.tiny(**OPEN_SORA), CAPTIONED, OneHot(3))),
    (
        "open-sora-two-streams",
        lambda: open_sora(OpenSoraConfig.tiny(**{**OPEN_SORA, "transformer": STREAMS}), SMALL, Bounded(-1, 1, (2,))),
    ),
    ("jepa", lambda: reaching(JEPA(JEPAConfig.tiny(latent=16, units=16), VECTOR, Bounded(-2, 2, (2,))))),
    ("jepa-image", lambda: reaching(JEPA(JEPAConfig.tiny(channels=(4, 4), predictor="mlp"), SMALL, OneHot(3)))),
    (
        "jepa-map",
        lambda: reaching(JEPA(JEPAConfig.tiny(channels=(4, 4), latent=2, predictor="conv"), SMALL, OneHot(3))),
    ),
    ("lewm", lambda: reaching(lewm(LeWMConfig.tiny(**VIT_SIZES, **WINDOW_SIZES), SMALL, OneHot(3)).eval())),
    ("pldm", lambda: reaching(PLDM(PLDMConfig.tiny(latent=8, projection=8), VECTOR, Bounded(-2, 2, (2,))).eval())),
    ("v-jepa-2-ac", lambda: reaching(VJEPA2AC(VJEPA2ACConfig.tiny(**VJEPA2_AC_SIZES), POSED, Bounded(-1, 1, (7,))))),
    ("jepa-wm", lambda: reaching(JEPAWM(JEPAWMConfig.tiny(**JEPA_WM_SIZES), MIXED, Bounded(-2, 2, (2,))))),
    ("dino-wm", lambda: reaching(DINOWM(DINOWMConfig.tiny(**DINO_SIZES), MIXED, Bounded(-1, 1, (2,))))),
    ("genie", lambda: reaching(film_world(Genie(GenieConfig.tiny(**FILM, **GENIE), SMALL)))),
    ("genie-redux", lambda: reaching(film_world(GenieRedux(GenieReduxConfig.tiny(**FILM, action_code=4), SMALL)))),
    ("genie-redux-g", lambda: film_world(GenieReduxG(GenieReduxGConfig.tiny(**FILM, **OUTCOMES), SMALL, OneHot(3)))),
]

OF_IMAGES = frozenset(
    {
        *{"IRIS", "DeltaIRIS", "Diamond", "DiffusionForcing", "DINOWM", "GAIA1", "Genie", "GenieRedux", "GenieReduxG"},
        *{"AVID", "CausVid", "JEPAWM", "LWM", "NWM", "Oasis", "OpenSora"},
        "VJEPA2AC",
    }
)
"""Families that see images alone."""

ADAPTED = frozenset(
    {
        "point-mass",
        "normal-noise-one-hot",
        "dict-observation",
        "no-decoder",
        "categorical",
        "image",
        "dreamer-v3",
        "world-models",
        "td-mpc2-tasks",
        "muzero-two-players",
        "iris",
        "diamond",
        "jepa",
    }
)
"""Models that the adapters meet in every run: every kind of space and capability, and one of each lineage.

An adapter knows nothing of a family, so its clauses hold for all that share a simulator; the weekly run tries them all.
"""

VARIANTS = frozenset(
    {
        "dict-observation",
        "image",
        "dreamer-v1-image",
        "planet-dict",
        "dreamer-v2-image",
        "dreamer-v3-preprint-dict",
        "dreamer-v3-dict",
        "world-models-image",
        "td-mpc2-image",
        "muzero-continuous",
        "muzero-dict",
        "muzero-image",
        "efficientzero-continuous",
        "efficientzero-planes",
        "storm-dict",
        "oasis",
        "open-sora-two-streams",
        "jepa-map",
        "nwm-outcomes",
    }
)
"""Models that imagine by the code of another one of their family: it is traced, and meets the adapters' noise, there.

In the weekly run it does so here too.
"""

OTHER_OBSERVATIONS = VARIANTS - {"oasis", "jepa-map"}
"""Of these, those whose family has another line of the same networks: they dream in the weekly run."""

CALLED = frozenset({"dreamer-v3", "td-mpc2", "muzero-two-players", "diamond"})
"""Models whose calls are followed in every run; the others in the weekly one."""

COMPILED = frozenset({"dreamer-v3", "muzero-two-players"})
"""Models whose imagination is compiled to machine code in every run, which takes some ten seconds each."""
