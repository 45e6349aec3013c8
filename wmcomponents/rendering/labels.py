"""Names and units of the numbers that environments show."""

import numpy as np

COMPONENTS: dict[str, tuple[str, ...]] = {
    "CartPole-v0": ("cart position (m)", "cart velocity (m/s)", "pole angle (rad)", "pole velocity (rad/s)"),
    "CartPole-v1": ("cart position (m)", "cart velocity (m/s)", "pole angle (rad)", "pole velocity (rad/s)"),
    "Pendulum-v1": ("cos of angle", "sin of angle", "angular velocity (rad/s)"),
    "MountainCar-v0": ("position", "velocity (per step)"),
    "MountainCarContinuous-v0": ("position", "velocity (per step)"),
    "Acrobot-v1": (
        "cos of angle 1", "sin of angle 1", "cos of angle 2", "sin of angle 2",
        "angular velocity 1 (rad/s)", "angular velocity 2 (rad/s)",
    ),
}  # fmt: skip
"""Labels of the vector observation of known environments, in order."""


def component_labels(key: str, shape: tuple[int, ...], env_id: str | None = None) -> list[str]:
    """One label for each number of an observation, in the order of its flat form.

    Args:
        key: the observation's key.
        shape: its shape.
        env_id: the environment's id, for names and units where they are known.
    """
    size = int(np.prod(shape))
    known = COMPONENTS.get(env_id or "", ())
    if key == "observation" and len(known) == size:
        return list(known)
    if size == 1:
        return [key]
    return [f"{key}[{', '.join(map(str, index))}]" for index in np.ndindex(*shape)]
