"""How good controllers are in reality, as World Models' was evolved for CarRacing."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchrl.envs import EnvBase, SerialEnv, TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type

from wmcomponents._arguments import whole
from wmcomponents.agents.evolution.controller import LinearController
from wmcomponents.agents.evolution.dream_returns import Earned
from wmcomponents.data.episodes import derived_seed
from wmcomponents.data.returns import evaluate_policy
from wmcomponents.dream.experience import Experience
from wmcomponents.world_model import LatentPolicy, WorldModel


class RealReturns:
    """Returns of controllers behind the model's filter, in whole episodes of the real environment.

    Within a generation all controllers meet the same R episodes. Costs P x R real episodes a generation, which
    :attr:`steps` counts: where steps are dear, evolve in dreams.

    Args:
        model: the world model; only its filter is used.
        make_env: makes a fresh environment without batch dimension, such as ``lambda: data.make_env(id)``.
        rollouts: R, episodes of each controller, side by side.
        sample: draw the filter's z; the mode otherwise.
        seed: of the episodes.

    Attributes:
        steps: real steps so far.
    """

    def __init__(
        self,
        model: WorldModel,
        make_env: Callable[[], EnvBase],
        *,
        rollouts: int = 16,
        sample: bool = True,
        seed: int = 0,
    ) -> None:
        self.model, self._make_env, self._sample, self._seed = model, make_env, sample, seed
        self.rollouts = whole("rollouts", rollouts, 1, "episodes of each controller, at least 1")
        self.steps = 0

    def __call__(
        self, controller: LinearController, genomes: Tensor, experience: Experience, generator: torch.Generator
    ) -> Earned:
        """Play R whole episodes with each controller.

        Args:
            controller: what the genomes are of; it acts as it did before afterwards.
            genomes: P controllers, ``[P, N]``.
            experience: not read.
            generator: decides the episodes, so that a generation is repeated with it.
        """
        number = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        before, policy = (
            controller.genome.clone(),
            LatentPolicy(self.model, controller, sample=self._sample, seed=number),
        )
        rows: Any = SerialEnv(self.rollouts, self._make_env)
        env = TransformedEnv(rows, auto_unwrap=False).append_transform(policy.make_tensordict_primer())
        drawn, returns, lengths = policy.generator_state(), [], []
        try:
            with torch.random.fork_rng(devices=[]), set_exploration_type(ExplorationType.MODE):
                for genome in genomes:
                    controller.genome.copy_(genome)
                    policy.set_generator_state(drawn)
                    found = evaluate_policy(
                        env, policy, self.rollouts, seed=derived_seed(self._seed, "fitness", number)
                    )
                    returns.append(found.returns)
                    lengths.append(found.lengths)
        finally:
            controller.genome.copy_(before)
            env.close()
        self.steps += sum(map(sum, lengths))
        as_told: Any = {"dtype": genomes.dtype, "device": genomes.device}
        return Earned(torch.tensor(returns, **as_told), torch.tensor(lengths, **as_told))
