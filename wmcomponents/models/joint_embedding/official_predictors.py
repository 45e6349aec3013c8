"""Where the weights of DINO-WM, jepa-wms, LeWorldModel and V-JEPA 2-AC go: their predictors, and DINO-WM's decoder."""

from torch import Tensor

from wmcomponents.models.joint_embedding.official_vit import block_rules, squeezed
from wmcomponents.pretrained import Rule


def of_convolution(value: Tensor) -> Tensor:
    """A convolution of width 1 over time, ``[out, in, 1]``, as the linear map that it is."""
    return value.squeeze(-1)


FRAME_CAUSAL_RULES = (
    Rule(r"pos_embedding", "positions", squeezed),
    Rule(r"transformer\.norm\.(.+)", r"norm.\1"),
    Rule(r"transformer\.layers\.(\d+)\.0\.norm\.(.+)", r"blocks.\1.norm1.\2"),
    Rule(r"transformer\.layers\.(\d+)\.0\.to_qkv\.(.+)", r"blocks.\1.attention.qkv.\2"),
    Rule(r"transformer\.layers\.(\d+)\.0\.to_out\.0\.(.+)", r"blocks.\1.attention.proj.\2"),
    Rule(r"transformer\.layers\.(\d+)\.1\.net\.0\.(.+)", r"blocks.\1.norm2.\2"),
    Rule(r"transformer\.layers\.(\d+)\.1\.net\.1\.(.+)", r"blocks.\1.mlp.0.\2"),
    Rule(r"transformer\.layers\.(\d+)\.1\.net\.4\.(.+)", r"blocks.\1.mlp.3.\2"),
)
"""Of DINO-WM's transformer, to :class:`wmcomponents.nn.FrameCausalTransformer`."""

DINO_WM_RULES = (
    Rule(r"encoder\..+", None),
    Rule(r"(proprio|action)_encoder\.patch_embed\.weight", r"\1_encoder.weight", of_convolution),
    Rule(r"(proprio|action)_encoder\.patch_embed\.bias", r"\1_encoder.bias"),
    *(Rule(rf"predictor\.{rule.source}", f"transformer.{rule.target}", rule.change) for rule in FRAME_CAUSAL_RULES),
)
"""Of DINO-WM's whole model, whose encoder is another's, to :class:`wmcomponents.dynamics.DINOWMPredictor`."""

ADAPTIVE_RULES = (
    Rule(r"predictor_embed\.(.+)", r"embed.\1"),
    Rule(r"action_encoder\.(.+)", r"action_encoder.\1"),
    Rule(r"predictor_blocks\.(\d+)\.adaLN_modulation\.(.+)", r"blocks.\1.modulation.\2"),
    *block_rules(r"predictor_blocks\."),
    Rule(r"predictor_norm\.(.+)", r"norm.\1"),
    Rule(r"predictor_proj\.(.+)", r"out.\1"),
)
"""Of jepa-wms' predictor, to :class:`wmcomponents.dynamics.AdaptiveFramePredictor`."""

LEWM_RULES = (
    Rule(r"predictor\.pos_embedding", "positions", squeezed),
    Rule(r"predictor\.transformer\.norm\.(.+)", r"norm.\1"),
    Rule(r"predictor\.transformer\.layers\.(\d+)\.attn\.norm\.(.+)", r"blocks.\1.attention.norm.\2"),
    Rule(r"predictor\.transformer\.layers\.(\d+)\.attn\.to_qkv\.(.+)", r"blocks.\1.attention.attention.qkv.\2"),
    Rule(r"predictor\.transformer\.layers\.(\d+)\.attn\.to_out\.0\.(.+)", r"blocks.\1.attention.attention.proj.\2"),
    Rule(r"predictor\.transformer\.layers\.(\d+)\.mlp\.net\.0\.(.+)", r"blocks.\1.mlp.0.\2"),
    Rule(r"predictor\.transformer\.layers\.(\d+)\.mlp\.net\.1\.(.+)", r"blocks.\1.mlp.1.0.\2"),
    Rule(r"predictor\.transformer\.layers\.(\d+)\.mlp\.net\.4\.(.+)", r"blocks.\1.mlp.1.3.\2"),
    Rule(r"predictor\.transformer\.layers\.(\d+)\.adaLN_modulation\.(.+)", r"blocks.\1.modulation.\2"),
    Rule(r"action_encoder\.patch_embed\.weight", "action_encoder.mix.weight", of_convolution),
    Rule(r"action_encoder\.patch_embed\.bias", "action_encoder.mix.bias"),
    Rule(r"action_encoder\.embed\.(.+)", r"action_encoder.net.\1"),
    Rule(r"pred_proj\.net\.(.+)", r"projection.net.\1"),
)
"""Of LeWorldModel's predictor, to :class:`wmcomponents.dynamics.LeWMPredictor`."""

VJEPA2_AC_RULES = (
    Rule(r"predictor_embed\.(.+)", r"embed.\1"),
    Rule(r"(action|extrinsics)_encoder\.(.+)", r"\1_encoder.\2"),
    Rule(r"state_encoder\.(.+)", r"pose_encoder.\1"),
    *block_rules(r"predictor_blocks\."),
    Rule(r"predictor_norm\.(.+)", r"norm.\1"),
    Rule(r"predictor_proj\.(.+)", r"out.\1"),
)
"""Of V-JEPA 2-AC's predictor, to :class:`wmcomponents.dynamics.VJEPA2ACPredictor`."""

_HALVES = {"upsample_b": "first", "dec": "second"}


def feature_decoder_rules(blocks: int) -> tuple[Rule, ...]:
    """Rules for DINO-WM's decoder, to :class:`wmcomponents.decoders.FeatureDecoder`.

    Args:
        blocks: residual blocks of each half: what stands behind them is numbered on.
    """
    half = r"(upsample_b|dec)\.blocks\."
    numbers = {0: "conv", blocks + 2: "doubling", blocks + 4: "out"}
    return (
        Rule(r"quantize_b\..+", None),  # no codes are used
        Rule(
            rf"{half}(\d+)\.conv\.(\d+)\.(.+)",
            lambda m: f"{_HALVES[m[1]]}.blocks.{int(m[2]) - 1}.{m[3]}.{m[4]}",
        ),
        *(
            Rule(rf"{half}{number}\.(\w+)", lambda m, ours=ours: f"{_HALVES[m[1]]}.{ours}.{m[2]}")
            for number, ours in numbers.items()
        ),
    )
