"""Every exported encoder, decoder, dynamics, head and tokenizer, held to what a component promises."""

import copy
import inspect
import itertools
from functools import partial

import pytest
import torch
from tensordict import TensorDict, TensorDictParams
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import Binary, Bounded, Categorical, Composite, LazyTensorStorage, TensorDictReplayBuffer, Unbounded
from torchrl.envs import EnvBase
from torchrl.objectives import LossModule

from tests.support.parts import scramble, settle
from wmcomponents import decoders, denoisers, dynamics, encoders, heads, tokenizers
from wmcomponents.codecs import OneHotPlanes, SquaredError, Support
from wmcomponents.component import Component
from wmcomponents.decoders import (
    BatchNormConvDecoder,
    BoardDecoder,
    ConvDecoder,
    FeatureDecoder,
    MLPDecoder,
    MultiDecoder,
    TransposedConvDecoder,
    VAEDecoder,
)
from wmcomponents.denoisers import (
    CDiT,
    DiT,
    DiTSize,
    EDMDenoiser,
    FilmUNet,
    FrameNetwork,
    MMDiT,
    MMDiTSize,
    OutputAdapter,
    SpaceTimeDiT,
    STDiT3,
    VectorSequenceDenoiser,
)
from wmcomponents.dynamics import (
    MDNRNN,
    RSSM,
    ActionGRU,
    AdaptiveFramePredictor,
    AddedActions,
    CategoricalLatent,
    ConvPredictor,
    ConvTransition,
    DeltaTransformer,
    DimensionMixture,
    DINOWMPredictor,
    LeWMPredictor,
    MaskedEmbedding,
    MaskGITDynamics,
    MLPTransition,
    ResidualPredictor,
    RSSMObserve,
    RSSMObserveSequence,
    SimNormDynamics,
    StateActionTransformer,
    StateTransition,
    TextImageActionTransformer,
    TextVisionTransformer,
    TokenTransformer,
    VJEPA2ACPredictor,
)
from wmcomponents.encoders import (
    BatchNormConvEncoder,
    BoardEncoder,
    ConvEncoder,
    ConvRepresentation,
    FrozenEncoder,
    ImpalaEncoder,
    MLPEncoder,
    MLPRepresentation,
    MultiEncoder,
    ShallowConvEncoder,
    SimNormEncoder,
    StateRepresentation,
    VAEEncoder,
    ViTEncoder,
)
from wmcomponents.heads import (
    AttentiveProbe,
    BernoulliHead,
    CategoricalHead,
    CategoricalPolicyPrior,
    FilmOutcomeHead,
    GaussianPolicyPrior,
    Head,
    MSEHead,
    NormalHead,
    NumberDistribution,
    PredictionHead,
    PreprintTwoHotHead,
    QEnsemble,
    RewardEndHead,
    RewardHead,
    SimSiamProjection,
    SymlogTwoHotHead,
    TerminationHead,
    TwoHotHead,
    ValuePrefixHead,
)
from wmcomponents.nn import (
    MLP,
    ConvAutoencoder,
    CosineQuantizer,
    LearnedCosineQuantizer,
    LearnedFilmPositions,
    MinMaxScale,
    Perceptron,
    PlainStem,
    ReducedHead,
    STTransformer,
    VectorQuantizer,
    ViTSize,
    VQGANDecoder,
    VQGANEncoder,
    genie_block,
    vjepa2_vit,
)
from wmcomponents.tokenizers import (
    DeltaTokenizer,
    FlattenedEncoder,
    ImageDetokenizer,
    ImageTokenizer,
    LatentActionModel,
    LatentDetokenizer,
    LatentTokenizer,
    VideoTokenizer,
)

SHOWN = Composite(
    board=Bounded(0, 1, (5, 5, 2), dtype=torch.bool),
    camera=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8),
    position=Unbounded(3),
)
IMAGE = Bounded(0, 255, (16, 16, 3), dtype=torch.uint8)
LARGE_IMAGE = Bounded(0, 255, (52, 52, 3), dtype=torch.uint8)
SEEN = Composite(board=Bounded(0, 1, (5, 5, 2), dtype=torch.bool), camera=LARGE_IMAGE, position=Unbounded(3))
BOARD = Bounded(0, 1, (5, 5, 2), dtype=torch.bool)
DETER, STOCH, ACTION, EMBED, NOISE = (
    Unbounded(8),
    Unbounded((4, 3)),
    Bounded(-1, 1, (2,)),
    Unbounded(6),
    Bounded(0, 1, (4,)),
)
FRAME, POSITIVE = Bounded(-1, 1, (16, 16, 3)), Bounded(0.1, 5.0, (1,))
LEVELS = {"cond": 8, "depths": (1, 1), "channels": (8, 16), "attends": (False, False)}
PATCHES, VIT = Unbounded((4, 8)), ViTSize(8, 1, 1, 16)
FLAG = Binary(1, dtype=torch.bool)
CONV = {"depth": 2, "mults": (1, 2)}
LATENT_FRAME, LEVEL, FLAGS = Unbounded((2, 4, 4)), Unbounded(()), Binary(3, dtype=torch.bool)
SMALL = DiTSize(8, depth=1, heads=2)


def rssm():
    return RSSM.block_gru(embed=6, action=2, deter=8, hidden=4, groups=4, classes=3, blocks=2)


def tokenizer(**keys):
    shape = (32, (1, 1), 1, (1,), 4)
    parts = VQGANEncoder(*shape), VQGANDecoder(*shape), VectorQuantizer(6, 4)
    return ImageTokenizer((16, 16, 3), *parts, features=4, grid=(8, 8), **keys)


def delta_tokenizer():
    sizes = {"features": 2, "context": 2, "channels": 32, "mults": (1,), "halves": (True,)}
    part = DeltaTokenizer((16, 16, 3), 2, CosineQuantizer(6, 4), **sizes)
    nn.init.normal_(part.quantizer.codebook)
    return part


def latents(**keys):
    return LatentTokenizer(ConvAutoencoder(latent=2, mults=(1, 1)), scale=(0.5, 2.0), shift=0.1, **keys)


def timed(leaf, steps=3):
    """The same leaf with a time dimension in front."""
    return leaf.expand(steps, *leaf.shape)


LATENT = Unbounded((4, 3, 3))
SUPPORT = Support.integers(3)


def prefix():
    lstm = ValuePrefixHead(nn.Identity(), 6, SUPPORT, lstm=4, hidden=[4], zero=False)
    return lstm, [EMBED, *lstm.memory_specs().values()]


def films(size, out):
    """A transformer over films of three frames of four tokens."""
    blocks = [genie_block(8, 2, 8)]
    return STTransformer(nn.Linear(size, 8), LearnedFilmPositions(3, 4, 8), blocks, nn.Linear(8, out))


def video_tokenizer():
    return VideoTokenizer((16, 16, 3), 8, films(192, 4), films(4, 192), LearnedCosineQuantizer(6, 4))


def latent_actions():
    encoder = FlattenedEncoder(films(192, 8), 4, 8, 4)
    return LatentActionModel(
        (16, 16, 3), 8, encoder, nn.Linear(192, 8), films(8, 192), LearnedCosineQuantizer(2, 4), dim=8
    )


# One line for each export: a small one, and the specs of what it reads, in the order of its in_keys.
COMPONENTS = {
    "ConvEncoder": (lambda: ConvEncoder((16, 16, 3), **CONV), [IMAGE]),
    "BatchNormConvEncoder": (lambda: BatchNormConvEncoder((16, 16, 3), **CONV), [IMAGE]),
    "BatchNormConvDecoder": (lambda: BatchNormConvDecoder(8, (4, 3), (16, 16, 3), **CONV), [DETER, STOCH]),
    "StateActionTransformer": (
        lambda: StateActionTransformer(CategoricalLatent(4, 3), 2, heads=2, dim=8, positions=3, kept=1),
        [timed(STOCH), timed(ACTION)],
    ),
    "MLPEncoder": (lambda: MLPEncoder(3, units=4, layers=1), [Unbounded(3)]),
    "MultiEncoder": (
        lambda: MultiEncoder.dreamer_v3(SHOWN, units=4, layers=1, **CONV),
        [SHOWN[key] for key in sorted(SHOWN.keys())],
    ),
    "BoardEncoder": (lambda: BoardEncoder((5, 5, 2), depth=2, units=4), [BOARD]),
    "ConvDecoder": (lambda: ConvDecoder(8, (4, 3), (16, 16, 3), units=4, blocks=2, **CONV), [DETER, STOCH]),
    "MLPDecoder": (lambda: MLPDecoder(8, (4, 3), {"a": 2, "b": 1}, units=4, layers=1), [DETER, STOCH]),
    "MultiDecoder": (
        lambda: MultiDecoder.dreamer_v3(SHOWN, 8, (4, 3), units=4, layers=1, blocks=2, **CONV),
        [DETER, STOCH],
    ),
    "BoardDecoder": (lambda: BoardDecoder(8, (4, 3), (5, 5, 2), depth=2, units=4), [DETER, STOCH]),
    "TransposedConvDecoder": (lambda: TransposedConvDecoder(8, (4, 3), (16, 16, 3), **CONV), [DETER, STOCH]),
    "VAEDecoder": (lambda: VAEDecoder(SHOWN, 6, images=partial(TransposedConvDecoder, **CONV)), [EMBED]),
    "VAEEncoder": (
        lambda: VAEEncoder(MultiEncoder(SHOWN, images=partial(ConvEncoder, **CONV)), 4),
        [*(SHOWN[key] for key in sorted(SHOWN.keys())), Unbounded(4)],
    ),
    "MDNRNN": (
        lambda: MDNRNN(DimensionMixture(6, 2), 2, 8),
        [EMBED, DETER, DETER, ACTION, Bounded(0, 1, (6,)), Unbounded(6)],
    ),
    "RSSM": (rssm, [DETER, STOCH, ACTION, NOISE]),
    "RSSMObserve": (lambda: RSSMObserve(rssm()), [DETER, STOCH, ACTION, EMBED, FLAG, NOISE]),
    "RSSMObserveSequence": (
        lambda: RSSMObserveSequence(rssm()),
        [DETER, STOCH, *(timed(leaf) for leaf in (ACTION, EMBED, FLAG, NOISE))],
    ),
    "Head": (lambda: Head(MLP(6, 4, layers=1), nn.Linear(4, 2), NumberDistribution(2, SquaredError())), [EMBED]),
    "BernoulliHead": (lambda: BernoulliHead(6, units=4), [EMBED]),
    "CategoricalHead": (lambda: CategoricalHead(6, 5, units=4), [EMBED]),
    "MSEHead": (lambda: MSEHead(6, units=4), [EMBED]),
    "NormalHead": (lambda: NormalHead(6, units=4), [EMBED]),
    "PreprintTwoHotHead": (lambda: PreprintTwoHotHead(6, units=4, bins=7, outscale=1.0), [EMBED]),
    "TwoHotHead": (lambda: settle(TwoHotHead(6, units=4, bins=7, outscale=1.0)), [EMBED]),
    "CategoricalPolicyPrior": (
        lambda: scramble(CategoricalPolicyPrior(6, (3, 2), units=4)),
        [EMBED, Bounded(0, 1, (2,))],
    ),
    "GaussianPolicyPrior": (lambda: scramble(GaussianPolicyPrior(6, 2, units=4)), [EMBED, Unbounded(2)]),
    "QEnsemble": (lambda: scramble(QEnsemble(6, units=4, members=3, bins=7)), [EMBED]),
    "ShallowConvEncoder": (lambda: ShallowConvEncoder((52, 52, 3), channels=2), [LARGE_IMAGE]),
    "ActionGRU": (lambda: scramble(ActionGRU(6, 2)), [EMBED, ACTION]),
    "ConvPredictor": (lambda: scramble(ConvPredictor((2, 3, 1), 2, units=4)), [EMBED, ACTION]),
    "ResidualPredictor": (lambda: scramble(ResidualPredictor(6, 2, units=4)), [EMBED, ACTION]),
    "ImpalaEncoder": (lambda: ImpalaEncoder((16, 16, 3), channels=(2, 2), blocks=1), [IMAGE]),
    "SimNormDynamics": (lambda: scramble(SimNormDynamics(6, 8, units=4, group=4)), [EMBED]),
    "SimNormEncoder": (
        lambda: SimNormEncoder(SEEN, latent=8, units=4, group=4),
        [SEEN[key] for key in sorted(SEEN.keys())],
    ),
    "SymlogTwoHotHead": (lambda: scramble(SymlogTwoHotHead(6, units=4, bins=7)), [EMBED]),
    "TerminationHead": (lambda: TerminationHead(6, units=4), [EMBED]),
    "ConvRepresentation": (lambda: ConvRepresentation(PlainStem(2, 4), (3, 3), 4), [Unbounded((2, 3, 3))]),
    "MLPRepresentation": (lambda: MLPRepresentation((2, 3), [4], 6, MinMaxScale()), [Unbounded((2, 3))]),
    "StateRepresentation": (lambda: StateRepresentation((2, 3), 6, 4), [Unbounded((2, 3))]),
    "ConvTransition": (lambda: ConvTransition(4, OneHotPlanes(2), skip=True), [LATENT, ACTION]),
    "MLPTransition": (lambda: MLPTransition(6, 2, [4], scale=MinMaxScale()), [EMBED, ACTION]),
    "StateTransition": (lambda: StateTransition(6, 2, 4, 4), [EMBED, ACTION]),
    "PredictionHead": (
        lambda: PredictionHead(nn.Identity(), Perceptron(6, [4], 3), Perceptron(6, [4], 7), SUPPORT),
        [EMBED],
    ),
    "EDMDenoiser": (
        lambda: EDMDenoiser(FrameNetwork(context=2, action=2, action_steps=2, noised_context=True, **LEVELS)),
        [FRAME, POSITIVE, FRAME.expand(2, 16, 16, 3), Bounded(-1, 1, (2, 2)), POSITIVE],
    ),
    "DiT": (
        lambda: scramble(DiT((2, 4, 4), SMALL, labels=3)),
        [LATENT_FRAME, LEVEL, Categorical(4, shape=())],
    ),
    "CDiT": (
        lambda: scramble(CDiT((2, 4, 4), SMALL, context=2)),
        [LATENT_FRAME, LEVEL, timed(LATENT_FRAME, 2), Unbounded(3), LEVEL],
    ),
    "SpaceTimeDiT": (
        lambda: scramble(SpaceTimeDiT((2, 4, 4), 2, SMALL, frames=3)),
        [timed(LATENT_FRAME), Unbounded(3), timed(ACTION)],
    ),
    "STDiT3": (
        lambda: scramble(STDiT3(2, 6, SMALL, text_length=2, action=2)),
        [timed(LATENT_FRAME), LEVEL, timed(EMBED), LEVEL, Bounded(32, 64, (2,)), FLAGS, FLAGS, timed(ACTION), FLAGS],
    ),
    "MMDiT": (
        lambda: scramble(MMDiT(2, 6, 3, MMDiTSize(16, 1, 1, heads=2, shares=(4, 2, 2)), action=2)),
        [
            *(timed(LATENT_FRAME), Bounded(0, 1, ()), timed(EMBED), Unbounded(3), Unbounded((3, 3, 4, 4))),
            *(timed(ACTION), FLAGS, FLAGS),
        ],
    ),
    "FilmUNet": (
        lambda: FilmUNet((2, 4, 4), 2, 4, (1, 2), 1, 4, frames=3),
        [timed(LATENT_FRAME), Unbounded(3), timed(ACTION)],
    ),
    "VectorSequenceDenoiser": (
        lambda: VectorSequenceDenoiser(6, 2, dim=8, depth=1, heads=2, hidden=8),
        [timed(EMBED), Unbounded(3), timed(ACTION)],
    ),
    "OutputAdapter": (
        lambda: scramble(OutputAdapter.beside((2, 4, 4), 2, 4, (1,), 1, 4)),
        [timed(LATENT_FRAME), timed(LATENT_FRAME), Unbounded(3), timed(LATENT_FRAME, 2), timed(ACTION)],
    ),
    "ImageTokenizer": (tokenizer, [IMAGE]),
    "ImageDetokenizer": (lambda: ImageDetokenizer(tokenizer()), [Categorical(6, shape=(64,))]),
    "LatentTokenizer": (lambda: latents(), [IMAGE]),
    "LatentDetokenizer": (lambda: LatentDetokenizer(latents()), [Unbounded((2, 8, 8))]),
    "DeltaTokenizer": (delta_tokenizer, [IMAGE, Categorical(2, shape=()), IMAGE]),
    "DeltaTransformer": (
        lambda: DeltaTransformer(
            6, 2, (16, 16, 3), max_blocks=3, layers=1, heads=2, features=1, mults=(1,), halves=(True,)
        ),
        [timed(IMAGE), Categorical(2, shape=(3,)), Categorical(6, shape=(3, 4))],
    ),
    "TokenTransformer": (
        lambda: TokenTransformer(6, 2, frame_tokens=4, max_frames=3, layers=1, heads=2, dim=8),
        [Categorical(6, shape=(3, 4)), Categorical(2, shape=(3,))],
    ),
    "TextVisionTransformer": (
        lambda: TextVisionTransformer(
            6, 2, spare=1, text_vocabulary=9, frame_tokens=4, max_frames=3, layers=1, heads=2, dim=8, hidden=8
        ),
        [Categorical(6, shape=(3, 4)), Categorical(2, shape=(3,))],
    ),
    "TextImageActionTransformer": (
        lambda: TextImageActionTransformer(
            6, (1, 1), text_tokens=2, text_width=5, frame_tokens=4, max_frames=3, kept=1, layers=1, heads=2, dim=8
        ),
        [Categorical(6, shape=(3, 4)), Unbounded((3, 2)), Unbounded((3, 2, 5))],
    ),
    "RewardEndHead": (
        lambda: RewardEndHead((16, 16, 3), 2, hidden=8, **LEVELS),
        [FRAME, ACTION, FRAME, DETER, DETER],
    ),
    "FilmOutcomeHead": (
        lambda: scramble(FilmOutcomeHead(4, 2, FlattenedEncoder(nn.Identity(), 6, 8, 8), 8, 8)),
        [Unbounded((3, 6, 4)), timed(ACTION)],
    ),
    "ViTEncoder": (lambda: ViTEncoder(vjepa2_vit(VIT, (2, 8, 8))), [timed(IMAGE, 4)]),
    "FrozenEncoder": (lambda: FrozenEncoder(nn.Conv2d(3, 4, 8, 8)), [IMAGE]),
    "AttentiveProbe": (lambda: AttentiveProbe(8, 3, heads=2), [PATCHES]),
    "FeatureDecoder": (
        lambda: FeatureDecoder((2, 2), 8, channels=4, blocks=1, block_channels=2),
        [PATCHES],
    ),
    "DINOWMPredictor": (
        lambda: DINOWMPredictor(4, 8, 3, 2, embedded=2, depth=1, heads=2, head_dim=4, hidden=8),
        [timed(PATCHES), timed(Unbounded(3)), timed(ACTION)],
    ),
    "AdaptiveFramePredictor": (
        lambda: AdaptiveFramePredictor((2, 2), 8, 2, proprio=4, frames=3, width=20, depth=1, heads=2),
        [timed(PATCHES), timed(ACTION), timed(NOISE)],
    ),
    "LeWMPredictor": (
        lambda: LeWMPredictor(6, 2, depth=1, heads=2, head_dim=4, hidden=8, projection=8),
        [timed(EMBED), timed(ACTION)],
    ),
    "VJEPA2ACPredictor": (
        lambda: VJEPA2ACPredictor((2, 2), 8, frames=3, width=24, depth=1, heads=2),
        [timed(PATCHES), timed(Unbounded(7)), timed(Unbounded(7)), timed(EMBED)],
    ),
    "VideoTokenizer": (video_tokenizer, [timed(IMAGE)]),
    "LatentActionModel": (latent_actions, [timed(IMAGE)]),
    "MaskGITDynamics": (
        lambda: MaskGITDynamics(MaskedEmbedding(6, 8), AddedActions(8, 2), films(8, 6)),
        [Categorical(6, shape=(3, 4)), Binary(shape=(3, 4), dtype=torch.bool), timed(ACTION)],
    ),
    "RewardHead": (lambda: RewardHead(ReducedHead((4, 3, 3), 2, [4], 7), SUPPORT, event_dims=3), [LATENT]),
    "SimSiamProjection": (lambda: SimSiamProjection(6, 4, 4, 2), [EMBED]),
    "ValuePrefixHead": (lambda: prefix()[0], prefix()[1]),
}


def exported():
    for package in (encoders, decoders, denoisers, dynamics, heads, tokenizers):
        for name, value in vars(package).items():
            if inspect.isclass(value) and issubclass(value, Component) and value is not Component:
                if not inspect.isabstract(value):
                    yield name


@pytest.fixture(params=COMPONENTS)
def part(request):
    torch.manual_seed(0)
    return COMPONENTS[request.param][0]().eval()


@pytest.fixture
def specs(part):
    leaves = COMPONENTS[type(part).__name__][1]
    return dict(zip(part.in_keys, leaves, strict=True))


def inputs(specs, *lead):
    """A TensorDict ``[*lead]`` with everything that a part reads."""
    td = TensorDict(batch_size=lead)
    for key, leaf in specs.items():
        td[key] = leaf.expand(*lead, *leaf.shape).rand() if lead else leaf.rand()
    return td


def test_every_export_is_listed_here():
    assert set(exported()) == set(COMPONENTS)


def test_keys_are_declared_and_what_is_written_is_what_is_declared(part, specs):
    td = inputs(specs, 2)
    before = td.clone()
    out = part(td)
    assert out is td
    assert set(out.keys(True, True)) == set(before.keys(True, True)) | set(part.out_keys)
    for key in set(part.in_keys) - set(part.out_keys):
        assert torch.equal(out[key], before[key])


def test_keys_are_renamed_at_construction(part, specs):
    signature = inspect.signature(type(part))
    assert "in_keys" in signature.parameters and "out_keys" in signature.parameters
    renamed_in = [("mine", f"in{i}") for i in range(len(part.in_keys))]
    renamed_out = [("mine", f"out{i}") for i in range(len(part.out_keys))]
    twin = rebuilt(part, in_keys=renamed_in, out_keys=renamed_out)
    assert twin.in_keys == renamed_in and twin.out_keys == renamed_out
    twin.load_state_dict(part.state_dict())
    td = inputs(specs, 2)
    renamed = TensorDict({new: td[old].clone() for old, new in zip(part.in_keys, renamed_in, strict=True)}, [2])
    part(td), twin(renamed)
    for old, new in zip(part.out_keys, renamed_out, strict=True):
        torch.testing.assert_close(renamed[new], td[old])


def rebuilt(part, **keys):
    """The same part built again with other keys: its constructor's arguments are those of the table above."""
    kind = type(part)
    original = kind.__init__
    seen = {}

    def spy(self, *args, **kwargs):
        if type(self) is kind:
            kwargs |= keys
            seen["called"] = True
        original(self, *args, **kwargs)

    kind.__init__ = spy
    try:
        twin = COMPONENTS[kind.__name__][0]().eval()
    finally:
        kind.__init__ = original
    assert seen
    return twin


def test_leading_dims_are_free(part, specs):
    td = inputs(specs, 2, 3)
    whole = part(td.clone())
    flat = part(td.reshape(6).clone())
    single = part(td[1, 2].clone())
    for key in part.out_keys:
        torch.testing.assert_close(whole[key].flatten(0, 1), flat[key], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(whole[key][1, 2], single[key], rtol=1e-4, atol=1e-5)


def test_tensors_go_in_by_position_or_by_key_and_tensors_come_out(part, specs):
    td = inputs(specs, 2)
    expected = part(td.clone())
    tensors = [td[key] for key in part.in_keys]
    by_key = {"_".join(key) if isinstance(key, tuple) else key: td[key] for key in part.in_keys}
    for out in (part(*tensors), part(**by_key)):
        out = out if isinstance(out, tuple) else (out,)
        for key, value in zip(part.out_keys, out, strict=True):
            torch.testing.assert_close(value, expected[key])


def test_optional_keys_may_be_absent_and_others_may_not(part, specs):
    td = inputs(specs, 2).exclude(*part.optional_keys)
    part(td)
    needed = next(key for key in part.in_keys if key not in part.optional_keys)
    with pytest.raises(KeyError, match="reads"):
        part(inputs(specs, 2).exclude(needed))


def test_out_keys_can_be_selected(part, specs):
    wanted = part.out_keys[-1]
    selected = part.select_out_keys(wanted)
    td = selected(inputs(specs, 2))
    assert selected.out_keys == [wanted] and wanted in td.keys(True, True)
    assert not set(td.keys(True, True)) - {wanted} - set(part.in_keys)
    out = selected(*(inputs(specs, 2)[key] for key in part.in_keys))
    assert isinstance(out, torch.Tensor)


def test_it_works_in_a_sequence(part, specs):
    assert isinstance(part, TensorDictModuleBase)
    first = part.out_keys[0]
    sequence = TensorDictSequential(part, Reads(first))
    td = sequence(inputs(specs, 2))
    torch.testing.assert_close(td["sum"], td[first].float().flatten(1).sum(1, keepdim=True))
    if not set(part.in_keys) & set(part.out_keys):
        assert set(sequence.in_keys) == set(part.in_keys)


class Reads(Component):
    """Sums one entry, so that something stands behind a part."""

    def __init__(self, key):
        super().__init__([key], ["sum"])

    def compute(self, value):
        return value.float().flatten(1).sum(1, keepdim=True)


class Shows(EnvBase):
    """An environment that shows random values of any specs."""

    def __init__(self, specs):
        super().__init__(batch_size=[2])
        spec = Composite(shape=(2,))
        for key, leaf in specs.items():
            spec[key] = leaf.expand(2, *leaf.shape)
        self.observation_spec = spec
        self.action_spec = Bounded(-1, 1, (2, 1))
        self.reward_spec = Unbounded((2, 1))

    def _show(self):
        return self.observation_spec.rand()

    def _reset(self, tensordict=None, **kwargs):
        return self._show().set("done", torch.zeros(2, 1, dtype=torch.bool))

    def _step(self, tensordict):
        shown = self._show()
        shown["reward"], shown["done"] = torch.zeros(2, 1), torch.zeros(2, 1, dtype=torch.bool)
        return shown

    def _set_seed(self, seed):
        torch.manual_seed(seed or 0)


@pytest.mark.filterwarnings("ignore:.*InitTracker")  # torchrl recommends one to every collector
def test_it_is_the_front_of_a_collectors_policy(part, specs):
    # A policy must not write what the environment writes: the outputs get names of their own.
    part = rebuilt(part, in_keys=part.in_keys, out_keys=[f"out{i}" for i in range(len(part.out_keys))])
    env = Shows({key if key != "action" else "action_before": leaf for key, leaf in specs.items()})
    if "action" in part.in_keys:
        keys = [key if key != "action" else "action_before" for key in part.in_keys]
        part = rebuilt(part, in_keys=keys, out_keys=part.out_keys)
    act = Act()
    policy = TensorDictSequential(part, Reads(part.out_keys[0]), act)
    (batch,) = Collector(env, policy, frames_per_batch=6, total_frames=6)
    assert batch.batch_size == (2, 3)
    torch.testing.assert_close(batch["action"], torch.tanh(batch["sum"]))


class Act(Component):
    def __init__(self):
        super().__init__(["sum"], ["action"])

    def compute(self, value):
        return torch.tanh(value)


def test_it_is_a_transform_of_a_replay_buffer(part, specs):
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(8), batch_size=4)
    buffer.append_transform(part)
    buffer.extend(inputs(specs, 8))
    sample = buffer.sample()
    direct = part(sample.select(*part.in_keys).clone())
    if not set(part.in_keys) & set(part.out_keys):
        for key in part.out_keys:
            torch.testing.assert_close(sample[key], direct[key], rtol=1e-4, atol=1e-5)
    assert set(part.out_keys) <= set(sample.keys(True, True))


class Sums(LossModule):
    """The least loss around a part."""

    net: TensorDictModuleBase
    net_params: TensorDictParams
    target_net_params: TensorDictParams

    def __init__(self, part):
        super().__init__()
        self.convert_to_functional(part, "net")

    def forward(self, tensordict):
        with self.net_params.to_module(self.net):
            out = self.net(tensordict.clone())
        floats = (out[key] for key in self.net.out_keys if out[key].dtype.is_floating_point)
        return TensorDict({"loss_sum": sum((value * (1 + i)).square().mean() for i, value in enumerate(floats))})


def test_it_trains_inside_a_loss_module(part, specs):
    loss = Sums(copy.deepcopy(part))
    td = inputs(specs, 2)
    before = td.clone()
    total = loss(td)["loss_sum"]
    assert (td == before).all()
    if isinstance(part, FrozenEncoder):  # which learns nothing
        assert not total.requires_grad
        return
    total.backward()
    gradients = [parameter.grad for parameter in loss.parameters()]
    reached = [gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients]
    assert reached and any(reached)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


def test_it_survives_a_deep_copy_and_a_state_dict(part, specs):
    twin = copy.deepcopy(part)
    for parameter in twin.parameters():
        nn.init.normal_(parameter)
    twin.load_state_dict(part.state_dict())
    td = inputs(specs, 2)
    ours, theirs = part(td.clone()), twin(td.clone())
    for key in itertools.chain(part.out_keys):
        torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=0)
