"""How an environment is built, by the options that all commands share."""

import json
from typing import TYPE_CHECKING, Any

from wmcomponents.cli.errors import UsageError, at_least, changed

if TYPE_CHECKING:
    from wmcomponents.cli.collect import CollectConfig
    from wmcomponents.cli.train import TrainConfig

NAMES = ("from_pixels", "image_size", "action_repeat", "sticky_actions", "max_episode_steps", "env_kwargs")
"""The options, as ``data.make_env`` calls them."""


def env_options(config: "CollectConfig | TrainConfig") -> dict[str, Any]:
    """The options as plain JSON, as ``data.make_env`` takes them.

    Args:
        config: of the command.

    Raises:
        UsageError: if an image has no side, the arguments of the environment are not written name=value, or a value is
            no plain JSON.
    """
    if config.image_size is not None:
        at_least(1, image_size=config.image_size)
    found = changed(config.env_kwargs, "--env-kwargs")
    try:
        arguments = json.loads(json.dumps(found, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"--env-kwargs are kept with the data as plain JSON ({error}); got {found}.") from error
    options = {name: getattr(config, name) for name in NAMES}
    return {
        **options,
        "image_size": "usual" if config.image_size is None else config.image_size,
        "env_kwargs": arguments,
    }
