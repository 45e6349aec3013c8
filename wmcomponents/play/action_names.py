"""Names of the actions of known environments: what a key or a stick can stand for."""

from typing import Any

ALE = (
    "NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT", "UPFIRE", "RIGHTFIRE",
    "LEFTFIRE", "DOWNFIRE", "UPRIGHTFIRE", "UPLEFTFIRE", "DOWNRIGHTFIRE", "DOWNLEFTFIRE",
)  # fmt: skip
"""All actions of an Atari console, in the order of ALE."""

MINATAR = ("NOOP", "LEFT", "UP", "RIGHT", "DOWN", "FIRE")
"""All actions of MinAtar, in its order; `MinAtar/<Game>-v1` keeps those that do something."""

MINATAR_FEWER = {
    "Asterix": (0, 1, 2, 3, 4),
    "Breakout": (0, 1, 3),
    "Freeway": (0, 2, 4),
    "Seaquest": (0, 1, 2, 3, 4, 5),
    "SpaceInvaders": (0, 1, 3, 5),
}

KNOWN: dict[str, tuple[str, ...]] = {
    "CartPole-v0": ("push left", "push right"),
    "CartPole-v1": ("push left", "push right"),
    "MountainCar-v0": ("left", "stay", "right"),
    "Acrobot-v1": ("left", "stay", "right"),
    "LunarLander-v3": ("noop", "left", "up", "right"),
    "FrozenLake-v1": ("left", "down", "right", "up"),
    "FrozenLake8x8-v1": ("left", "down", "right", "up"),
    "CliffWalking-v1": ("up", "right", "down", "left"),
    "Taxi-v3": ("down", "up", "right", "left", "pick up", "drop off"),
    "Pendulum-v1": ("torque",),
    "MountainCarContinuous-v0": ("force",),
    "CarRacing-v3": ("steer", "gas", "brake"),
}
"""Of environments of Gymnasium, in the order of their actions."""


def action_names(env_id: str | None, count: int, env: Any = None) -> list[str] | None:
    """The names of an environment's actions; ``None`` where they are not known.

    Args:
        env_id: its id.
        count: how many there are.
        env: the environment, which is asked too.
    """
    game = (env_id or "").removeprefix("MinAtar/").split("-")[0]
    fewer = [MINATAR[i] for i in MINATAR_FEWER.get(game, ())] if (env_id or "").startswith("MinAtar/") else []
    candidates = [_asked(env), KNOWN.get(env_id or ""), fewer]
    if (env_id or "").startswith("ALE/"):
        candidates.append(ALE)
    if (env_id or "").startswith("MinAtar/"):
        candidates.append(MINATAR)
    return next((list(names) for names in candidates if names and len(names) == count), None)


def _asked(env: Any) -> list[str]:
    """What the environment inside all wrappers says its actions mean."""
    inner, seen = env, 0
    while inner is not None and seen < 20:
        ask = inner.__dict__.get("get_action_meanings") or getattr(type(inner), "get_action_meanings", None)
        if ask is not None:
            return [str(name) for name in ask(inner)] if not hasattr(ask, "__self__") else [str(name) for name in ask()]
        held = inner.__dict__
        inner = held.get("base_env") or held.get("_env") or held.get("env") or held.get("_modules", {}).get("base_env")
        seen += 1
    return []
