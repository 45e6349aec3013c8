"""What PlaNet and Dreamer change in actions on the way to the environment, so that they try others."""

from typing import Any

from tensordict.nn import TensorDictModuleBase
from torchrl.data import TensorSpec
from torchrl.modules import AdditiveGaussianModule, EGreedyModule


def exploration(spec: TensorSpec, noise: float, epsilon: float) -> TensorDictModuleBase | None:
    """Gaussian noise on numbers, now and then a random one of choices; ``None`` where its number is 0.

    Args:
        spec: of one action.
        noise: standard deviation, in the action's own units.
        epsilon: share of random choices.
    """
    if spec.dtype.is_floating_point:
        steady: Any = {"sigma_init": noise, "sigma_end": noise, "annealing_num_steps": 1}
        return AdditiveGaussianModule(spec, **steady) if noise else None
    steady = {"eps_init": epsilon, "eps_end": epsilon, "annealing_num_steps": 1}
    return EGreedyModule(spec, **steady) if epsilon else None
