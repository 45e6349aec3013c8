"""Where the weights of YeWR/EfficientZero go in an :class:`~wmcomponents.models.EfficientZero`."""

from wmcomponents.pretrained import Rule

BLOCKS = r"resblocks\.(\d+)\.(.+)"
PREDICTION = r"prediction_network\."

RULES = (
    # The shortcut of the block that lowers the resolution.
    Rule(
        r"representation_network\.downsample_net\.downsample_block\.downsample\.(.+)",
        r"representation.stem.down.shortcut.\1",
    ),
    Rule(r"representation_network\.downsample_net\.downsample_block\.(.+)", r"representation.stem.down.\1"),
    # The second convolution of the stem is made and never called.
    Rule(r"representation_network\.downsample_net\.conv2\..+", None),
    Rule(r"representation_network\.downsample_net\.(.+)", r"representation.stem.\1"),
    Rule(r"representation_network\." + BLOCKS, r"representation.blocks.\1.\2"),
    # So are residual blocks before the reward.
    Rule(r"dynamics_network\.reward_resblocks\..+", None),
    Rule(r"dynamics_network\.((?:conv|bn)\..+)", r"transition.\1"),
    Rule(r"dynamics_network\." + BLOCKS, r"transition.blocks.\1.\2"),
    Rule(r"dynamics_network\.conv1x1_reward\.(.+)", r"reward_head.entry.conv.\1"),
    Rule(r"dynamics_network\.bn_reward\.(.+)", r"reward_head.entry.bn.\1"),
    Rule(r"dynamics_network\.lstm\.(.+)_l0", r"reward_head.lstm.\1"),
    Rule(r"dynamics_network\.bn_value_prefix\.(.+)", r"reward_head.norm.\1"),
    Rule(r"dynamics_network\.fc\.(.+)", r"reward_head.fc.\1"),
    Rule(PREDICTION + BLOCKS, r"prediction.trunk.\1.\2"),
    Rule(PREDICTION + r"conv1x1_(policy|value)\.(.+)", r"prediction.\1.reduce.conv.\2"),
    Rule(PREDICTION + r"bn_(policy|value)\.(.+)", r"prediction.\1.reduce.bn.\2"),
    Rule(PREDICTION + r"fc_(policy|value)\.(.+)", r"prediction.\1.fc.\2"),
    Rule(r"projection\.7\.(.+)", r"projection.out_norm.\1"),
    Rule(r"projection\.(.+)", r"projection.projector.\1"),
    Rule(r"projection_head\.(.+)", r"projection.predictor.\1"),
)
"""The first that matches decides."""
PLAIN = Rule(r"representation_network\.((?:conv|bn)\..+)", r"representation.stem.\1")
UNUSED = Rule(PLAIN.source, None)


def official_rules(downsamples: bool) -> tuple[Rule, ...]:
    """The rules of one kind of network.

    Args:
        downsamples: whether it brings images down: it keeps the plain convolution then, which it never calls.
    """
    return (*RULES, UNUSED if downsamples else PLAIN)
