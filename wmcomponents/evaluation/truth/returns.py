"""The section on returns: what policies earn in the dream and in reality, and what a search in the dream finds."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase

from wmcomponents._arguments import whole
from wmcomponents.data.returns import evaluate_policy
from wmcomponents.dream.replay_starts import filtered_states
from wmcomponents.dream.simulator import Simulator
from wmcomponents.dream.starts import FixedStarts, model_device
from wmcomponents.evaluation.metrics import spearman
from wmcomponents.evaluation.returns import evaluate_dream
from wmcomponents.evaluation.truth.layout import Section, rounded, unmeasured
from wmcomponents.evaluation.truth.policies import RealPolicy, RowPolicy, View, drawn, scores
from wmcomponents.nn.mode import EvalMode
from wmcomponents.world_model import State, WorldModel


class ReturnSettings(NamedTuple):
    """How much is played for the comparison of returns.

    Attributes:
        policies: that are compared: half of them random, half between a random one and the search's winner.
        episodes: of each, in reality and in the dream.
        steps: after which an episode is cut, in both.
        generations: of the search in the dream.
        population: policies in a generation.
    """

    policies: int = 12
    episodes: int = 6
    steps: int = 50
    generations: int = 4
    population: int = 24


def returns_section(
    model: WorldModel,
    make_env: Callable[[int], EnvBase] | None,
    examples: TensorDictBase,
    settings: ReturnSettings,
    *,
    seed: int,
) -> Section:
    """Search the dream for the best linear policy; then compare it, and others, in both worlds.

    Every episode begins where a real one does: the dream's start states are the filter's after the first observation
    of a real reset. A search looks for what a model over-rates; what its winner earns in the dream and not in reality
    is the exploitation gap.

    Args:
        model: predicts rewards.
        make_env: a fresh real environment, batch size ``[]``, cut after so many steps; ``None`` without one.
        examples: real sequences ``[B, T]``, for the scale of what policies read.
        settings: how much is played.
        seed: of policies, environments and dreams.

    Raises:
        ValueError: for fewer than two policies, or two episodes of each: there is no spread of one.
    """
    for name in ("policies", "episodes"):
        whole(name, getattr(settings, name), 2, "a number of returns that are compared, at least 2")
    if make_env is None:
        return unmeasured("there is no environment to play in; name one with --env.")
    if "reward" not in model.capabilities:
        return unmeasured("the model predicts no reward.")
    outputs = scores(model.action_spec)
    if outputs is None:
        return unmeasured(
            f"the policies that are compared know no actions of the kind {type(model.action_spec).__name__}."
        )
    reads_features = "decode" not in model.capabilities
    if reads_features and "features" not in model.capabilities:
        return unmeasured("the model shows neither observations nor features for a policy to read.")
    arena = _Arena(model, make_env(settings.steps), examples, reads_features, outputs, settings, seed)
    try:
        return arena.section()
    finally:
        arena.close()


class _Arena:
    """Both worlds, and policies that can be sent into either."""

    def __init__(
        self,
        model: WorldModel,
        env: EnvBase,
        examples: TensorDictBase,
        reads_features: bool,
        outputs: int,
        settings: ReturnSettings,
        seed: int,
    ) -> None:
        self._model, self._env, self._settings, self._seed = model, env, settings, seed
        self._filter = model if reads_features else None
        self._outputs = outputs
        self._starts = _real_starts(model, env, max(16, settings.episodes), seed)
        self._view = View(_read(model, examples, reads_features), seed)
        self._dreams = 0

    def close(self) -> None:
        """Give the environment back."""
        self._env.close()

    def section(self) -> Section:
        """Everything, as JSON."""
        settings = self._settings
        generator = torch.Generator().manual_seed(self._seed)
        count = settings.policies
        weights = drawn(count, self._view.size, self._outputs, generator)
        winner = self._searched(weights, self._dream(weights), generator)
        # Random policies alone may be all alike bad; on the way to the winner there is more to tell apart.
        way = torch.linspace(0.0, 0.9, count // 2 + 1)[1:].reshape(-1, 1, 1)
        weights[count - len(way) :] = (1.0 - way) * weights[count - len(way) :] + way * winner
        dream, real = self._dream(weights), torch.stack([self._real(one) for one in weights])
        found = {"dream": self._dream(winner[None])[0], "real": self._real(winner)}
        means = dream.mean(1), real.mean(1)
        resampled = [
            spearman(means[0][row], means[1][row])
            for row in torch.randint(len(weights), (200, len(weights)), generator=generator)
        ]
        sure = torch.tensor([value for value in resampled if value == value], dtype=torch.float64)
        low, high = (
            torch.quantile(sure, torch.tensor([0.025, 0.975]).double()).tolist() if len(sure) else (math.nan,) * 2
        )
        chosen, best = int(means[0].argmax()), int(means[1].argmax())
        return {
            **settings._asdict(),
            "reads": "features" if self._filter is not None else "observations",
            "points": [{"dream": rounded(float(d)), "real": rounded(float(r))} for d, r in zip(*means, strict=True)],
            "rank_correlation": {"value": rounded(spearman(*means)), "low": rounded(low), "high": rounded(high)},
            "mean_absolute_error": rounded(float((means[0] - means[1]).abs().mean())),
            "bias": rounded(float((means[0] - means[1]).mean())),
            "spread_of_real_returns": rounded(float(means[1].std())),
            "standard_error_of_real_returns": rounded(_chance(real)),
            "regret_of_choosing_in_the_dream": rounded(float(means[1][best] - means[1][chosen])),
            "exploitation": self._exploitation(found, means),
        }

    def _exploitation(self, found: dict[str, Tensor], means: tuple[Tensor, Tensor]) -> dict[str, Any]:
        """What the search's winner earns in both worlds; the gap beside that of policies nobody chose."""
        gap = float(found["dream"].mean() - found["real"].mean())
        deviation = sum(float(one.var()) / len(one) for one in found.values()) ** 0.5
        usual = float((means[0] - means[1]).mean())
        scale = max(float(means[1].std()), 0.05 * float(means[1].abs().max()), 1e-9)
        return {
            "dream": rounded(float(found["dream"].mean())),
            "real": rounded(float(found["real"].mean())),
            "gap": rounded(gap),
            "standard_error": rounded(deviation),
            "gap_of_the_others": rounded(usual),
            "gap_in_spreads": rounded((gap - max(usual, 0.0)) / scale),
            "best_of_the_others_for_real": rounded(float(means[1].max())),
        }

    def _searched(self, weights: Tensor, dream: Tensor, generator: torch.Generator) -> Tensor:
        """The winner of a cross-entropy search in the dream, from the random policies on, ``[D + 1, A]``."""
        size, elite = self._settings.population, max(2, self._settings.population // 6)
        order = dream.mean(1).argsort(descending=True)
        kept = weights[order[:elite]]
        best = weights[order[0]]
        mean, spread = kept.mean(0), kept.std(0).clamp_min(0.3)
        for _ in range(self._settings.generations):
            tried = mean + spread * torch.randn(size, *mean.shape, generator=generator)
            tried = torch.cat([best[None], tried])
            value = self._dream(tried).mean(1)
            order = value.argsort(descending=True)
            best = tried[order[0]]
            mean, spread = tried[order[:elite]].mean(0), tried[order[:elite]].std(0).clamp_min(0.05)
        return best

    def _dream(self, weights: Tensor) -> Tensor:
        """Returns in the dream of each policy, ``[P, episodes]``."""
        episodes = self._settings.episodes
        count = len(weights)
        self._dreams += 1
        # Row p * E + e begins at start e, so that all policies begin alike.
        size = len(next(iter(self._starts.values())))
        index = torch.arange(episodes).repeat(count) % size
        starts = FixedStarts({key: value[index.to(value.device)] for key, value in self._starts.items()})
        ends = "sample" if "continue" in self._model.capabilities else "off"
        simulator = Simulator(
            self._model,
            starts,
            batch_size=count * episodes,
            horizon=self._settings.steps,
            view="latent" if self._filter is not None else "decoded",
            termination=ends,
            seed=self._seed + self._dreams,
        )
        policy = RowPolicy(weights.repeat_interleave(episodes, 0), self._view, self._model.action_spec)
        return torch.tensor(evaluate_dream(simulator, policy).returns).reshape(count, episodes)

    def _real(self, weights: Tensor) -> Tensor:
        """Returns in reality of a policy, ``[episodes]``."""
        policy = RealPolicy(weights, self._view, self._filter, self._model.action_spec)
        returns = evaluate_policy(self._env, policy, self._settings.episodes, seed=self._seed + 1)
        return torch.tensor(returns.returns, dtype=torch.float64)


def _chance(returns: Tensor) -> float:
    """The standard error of a policy's mean return, of returns ``[P, E]``; episode e begins alike for all policies."""
    policies, episodes = returns.shape
    left = returns - returns.mean(1, keepdim=True) - returns.mean(0, keepdim=True) + returns.mean()
    free = max((policies - 1) * (episodes - 1), 1)
    return float((left.square().sum() / free / episodes).sqrt())


@torch.no_grad()
def _real_starts(model: WorldModel, env: EnvBase, count: int, seed: int) -> State:
    """The filter's states after the first observations of real episodes, ``[count, ...]``."""
    env.set_seed(seed + 1)
    device = model_device(model)
    resets = [env.reset() for _ in range(count)]
    seen = {str(key): torch.stack([one[key] for one in resets]).to(device) for key in model.observation_spec.keys()}
    is_init = torch.ones(count, 1, dtype=torch.bool, device=device)
    with EvalMode(model):
        return model.observe(
            model.initial_state((count,), device), model.null_action((count,), device), seen, is_init, None
        )


@torch.no_grad()
def _read(model: WorldModel, examples: TensorDictBase, reads_features: bool) -> dict[str, Tensor]:
    """What the policies will read, along real sequences, ``[N, ...]`` by key."""
    few = cast(TensorDictBase, examples[:32, :16])
    if not reads_features:
        return {str(key): cast(Tensor, few[key]).flatten(0, 1) for key in model.observation_spec.keys()}
    states = filtered_states(model, few)
    with EvalMode(model):
        return {"latent": model.features(states).flatten(0, 1)}
