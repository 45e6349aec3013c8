"""Where the weights of werner-duvaud/muzero-general go in a :class:`~wmcomponents.models.MuZero`."""

from wmcomponents.pretrained import Rule

BLOCKS = r"resblocks\.(\d+)\.(.+)"
PLAIN = Rule(r"representation_network\.module\.((?:conv|bn)\..+)", r"representation.stem.\1")
UNUSED = Rule(PLAIN.source, None)

RULES = (
    # "fullyconnected"
    Rule(r"representation_network\.module\.(\d+\.\w+)", r"representation.net.\1"),
    Rule(r"dynamics_encoded_state_network\.module\.(\d+\.\w+)", r"transition.net.\1"),
    Rule(r"dynamics_reward_network\.module\.(\d+\.\w+)", r"reward_head.net.\1"),
    Rule(r"prediction_(policy|value)_network\.module\.(\d+\.\w+)", r"prediction.\1.\2"),
    # "resnet"
    Rule(r"representation_network\.module\.downsample_net\.(.+)", r"representation.stem.\1"),
    Rule(r"representation_network\.module\." + BLOCKS, r"representation.blocks.\1.\2"),
    Rule(r"dynamics_network\.module\.((?:conv|bn)\..+)", r"transition.\1"),
    Rule(r"dynamics_network\.module\." + BLOCKS, r"transition.blocks.\1.\2"),
    Rule(r"dynamics_network\.module\.conv1x1_reward\.(\w+)", r"reward_head.net.reduce.conv.\1"),
    Rule(r"dynamics_network\.module\.fc\.(.+)", r"reward_head.net.fc.\1"),
    Rule(r"prediction_network\.module\." + BLOCKS, r"prediction.trunk.\1.\2"),
    Rule(r"prediction_network\.module\.conv1x1_(policy|value)\.(\w+)", r"prediction.\1.reduce.conv.\2"),
    Rule(r"prediction_network\.module\.fc_(policy|value)\.(.+)", r"prediction.\1.fc.\2"),
)


def official_rules(downsamples: bool) -> tuple[Rule, ...]:
    """The rules of one kind of network.

    Args:
        downsamples: whether it brings images down: it keeps the plain convolution then, which it never calls.
    """
    return (*RULES, UNUSED if downsamples else PLAIN)
