"""The whole story in one command: real steps, a world model of them, an agent trained in the dream, reality again."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.data import Composite, Unbounded
from torchrl.envs import TransformedEnv

from wmcomponents.cli.errors import changed
from wmcomponents.data import RandomPolicy, RealCollector, action_spec, make_env, make_replay, observation_spec
from wmcomponents.dream.starts import PriorStarts, ReplayStarts
from wmcomponents.integrations.sb3 import DreamVecEnv, SB3Policy
from wmcomponents.integrations.torchrl import LatentPolicy
from wmcomponents.models import make_model
from wmcomponents.nn.observation import VectorObservation, describe_observations
from wmcomponents.training import Cooling, Trainer, seed_everything
from wmcomponents.training.progress import progress_bar
from wmcomponents.world_model import WorldModel

BURN_IN = 8
"""Real steps that warm the filter up before a dream may start."""


@dataclass(frozen=True)
class DemoConfig:
    """What the demo does.

    Attributes:
        env: the real environment's id.
        seed: of everything.
        out: folder for the files; ``runs/demo-<env>-<seed>`` if not given.
        real_steps: real steps collected in all, spread evenly over the rounds.
        rounds: rounds of collecting, fitting the model, training the agent. The first collects at random.
        updates: updates of the world model in each round.
        dream_steps: steps in each round of the agent that collects, which is trained on from round to round.
        final_dream_steps: steps of the agent that counts, trained from scratch in the last round's dream.
        dreams: dreams stepped side by side.
        horizon: steps after which a dream is cut (and its value bootstrapped).
        sequence_length: steps in a training sequence.
        batch_size: sequences in a training batch.
        lr: learning rate of the world model.
        family: of the world model (``models.MODELS``).
        preset: size of the world model (``models.presets``).
        changes: entries of the model's config that differ from the preset, as ``name=value``.
        view: what the agent sees: the decoded observation, or the model's latent features (needed for pixels);
            ``auto`` decides by the observation and by what the model can.
        episodes: episodes of each evaluation.
        max_episode_steps: cut real episodes here; the environment's own limit if not given.
        from_pixels: observe rendered images.
        threads: torch's threads; 1 is fastest for small models, 0 leaves torch's choice.
    """

    env: str = "CartPole-v1"
    seed: int = 0
    out: Path | None = None
    real_steps: int = 10_000
    rounds: int = 8
    updates: int = 300
    dream_steps: int = 40_960
    final_dream_steps: int = 163_840
    dreams: int = 32
    horizon: int = 64
    sequence_length: int = 48
    batch_size: int = 16
    lr: float = 1e-3
    family: str = "DreamerV3"
    preset: str = "tiny"
    changes: tuple[str, ...] = ()
    view: Literal["auto", "decoded", "latent"] = "auto"
    episodes: int = 20
    max_episode_steps: int | None = None
    from_pixels: bool = False
    threads: int = 1


@dataclass
class DemoResult:
    """What the demo found; :meth:`line` is its last line on standard output."""

    env: str
    seed: int
    real_steps: int
    dream_steps: int
    seconds: float
    random_return: float
    dream_return: float
    real_return: float
    files: dict[str, str]
    returns: dict[str, list[float]] = field(default_factory=dict)

    def line(self) -> str:
        """One JSON object."""
        keys = ("env", "seed", "real_steps", "dream_steps", "seconds", "random_return", "dream_return", "real_return")
        return json.dumps({**{key: getattr(self, key) for key in keys}, "files": self.files})


class Demo:
    """Collect, fit, dream, repeat.

    Args:
        config: what to do.
        say: receives progress lines.
        progress: show progress bars.
    """

    def __init__(self, config: DemoConfig, *, say: Callable[[str], None] = print, progress: bool = True) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        seed_everything(config.seed)
        self.config = config
        self.say = say
        self.progress = progress
        self.out = config.out or Path("runs") / f"demo-{config.env.replace('/', '-')}-{config.seed}"
        self.env = self._real_env(config.seed)
        self.observation_spec = observation_spec(self.env)
        self.action_spec = action_spec(self.env)
        self.replay = make_replay(
            config.real_steps,
            self.env,
            sequence_length=config.sequence_length,
            batch_size=config.batch_size,
            seed=config.seed,
            print_fn=say,
        )
        self.model = make_model(
            config.family, config.preset, self.observation_spec, self.action_spec, **changed(config.changes)
        )
        self.latent = _wants_latent(config.view, self.model)
        self.trainer = Trainer(
            self.model,
            self.replay,
            lr=config.lr,
            warmup=100,
            schedule=Cooling(config.updates),
            seed=config.seed,
            progress=progress,
        )
        self.starts = ReplayStarts(self.model, self.replay.sample, pool_size=4096, burn_in=BURN_IN, seed=config.seed)
        self.agent: Any = None
        self.collector = RealCollector(
            self._carrying(self.env), self.replay, policy=self._policy(explore=True), seed=config.seed
        )
        self.real_steps = self.dream_steps = 0
        self.longest = 0

    def run_round(self, number: int) -> None:
        """Collect with the last round's agent, fit the model to all data, train the agent in the dream."""
        config = self.config
        share = config.real_steps // config.rounds
        steps = config.real_steps - share * (config.rounds - 1) if number == 0 else share
        self.collector.policy = self._policy(explore=True)
        stats = self.collector.collect(steps)
        self.real_steps += stats.frames
        self.longest = max([self.longest, *stats.lengths])
        shown = f"mean return {statistics.fmean(stats.returns):.1f}" if stats.returns else "no episode ended"
        who = "at random" if number == 0 else "with the agent"
        self.say(f"round {number + 1}/{config.rounds}: {stats.frames} real steps {who}, {shown}")
        self.trainer.train(config.updates * (number + 1))
        self.starts.refresh()
        self._learn(number)

    def _learn(self, number: int) -> None:
        from stable_baselines3 import PPO
        from stable_baselines3.common.vec_env import VecMonitor

        config = self.config
        last = number == config.rounds - 1
        dream = DreamVecEnv(
            self.model,
            config.dreams,
            starts=self.starts,
            horizon=config.horizon,
            view="latent" if self.latent else "decoded",
            seed=config.seed,
        )
        if self.agent is not None and not last:
            self.agent.set_env(VecMonitor(dream))
        else:
            # The agent that counts starts anew: the one trained on keeps the habits of earlier, wrong dreams.
            self.agent = PPO(
                "MlpPolicy",
                VecMonitor(dream),
                n_steps=max(8, 1024 // config.dreams),
                batch_size=256,
                n_epochs=10,
                learning_rate=_annealed,
                seed=config.seed,
                device="cpu",
            )
        steps = config.final_dream_steps if last else config.dream_steps
        with progress_bar(self.progress, "agent in the dream", 0, steps) as show:

            def advance(local: dict[str, Any], _: Any) -> bool:
                show(local["self"].num_timesteps, {})
                return True

            # The learning rate anneals over the steps of one call: each round counts its own from zero.
            self.agent.learn(steps, callback=advance)
        self.dream_steps += self.agent.num_timesteps
        self.say(f"round {number + 1}/{config.rounds}: {self.dream_steps:,} dreamed steps so far")

    def real_returns(self, policy: Callable[[TensorDictBase], TensorDictBase], seed: int) -> list[float]:
        """Undiscounted returns of fresh episodes in the real environment."""
        from wmcomponents.evaluation.returns import evaluate_policy

        env = self._carrying(self._real_env(seed))
        found = evaluate_policy(env, policy, episodes=self.config.episodes, seed=seed)
        self.longest = max([self.longest, *found.lengths])
        return found.returns

    def dream_returns(self) -> list[float]:
        """Undiscounted returns of dreams from the model's first states, cut where the longest real episode ended."""
        from stable_baselines3.common.evaluation import evaluate_policy

        dream = DreamVecEnv(
            self.model,
            self.config.episodes,
            starts=PriorStarts(self.model),
            horizon=self.longest,
            view="latent" if self.latent else "decoded",
            seed=self.config.seed,
        )
        found = evaluate_policy(
            self.agent, dream, n_eval_episodes=self.config.episodes, return_episode_rewards=True, warn=False
        )
        return [float(value) for value in cast("list[float]", found[0])]

    def final_policy(self) -> TensorDictModuleBase:
        """The agent as a policy for the real environment, without exploration."""
        return self._policy(explore=False)

    def _policy(self, *, explore: bool) -> Any:
        if self.agent is None:
            random = RandomPolicy(self.env.action_spec, generator=torch.Generator().manual_seed(self.config.seed))
            return LatentPolicy(self.model, random) if self.latent else random
        if not self.latent:
            return SB3Policy(self.agent, self.observation_spec, self.action_spec, deterministic=not explore)
        width = self.agent.observation_space.shape
        spec = Composite(latent=Unbounded(width))
        return LatentPolicy(self.model, SB3Policy(self.agent, spec, self.action_spec, deterministic=not explore))

    def _carrying(self, env: TransformedEnv) -> TransformedEnv:
        """The environment with room for the filter's state, where the agent acts on latents."""
        if self.latent:
            env.append_transform(LatentPolicy(self.model, RandomPolicy(env.action_spec)).make_tensordict_primer())
        return env

    def _real_env(self, seed: int) -> TransformedEnv:
        config = self.config
        return make_env(
            config.env, seed=seed, max_episode_steps=config.max_episode_steps, from_pixels=config.from_pixels
        )


def run_demo(config: DemoConfig, *, say: Callable[[str], None] = print, progress: bool = True) -> DemoResult:
    """Run the demo from the first random step to the last picture.

    Args:
        config: what to do.
        say: receives progress lines.
        progress: show progress bars on standard error.

    Returns:
        Mean returns over ``config.episodes`` episodes each, and the files written.
    """
    from wmcomponents.evaluation.story import tell_story

    begun = time.perf_counter()
    demo = Demo(config, say=say, progress=progress)
    random_returns = demo.real_returns(demo._policy(explore=True), seed=config.seed + 10_000)
    for number in range(config.rounds):
        demo.run_round(number)
    demo.collector.close()
    policy = demo.final_policy()
    real_returns = demo.real_returns(policy, seed=config.seed + 20_000)
    dream_returns = demo.dream_returns()
    model_path = demo.model.save_pretrained(demo.out / "model", starts=demo.starts.pool)
    agent_path = demo.out / "agent.zip"
    demo.agent.save(agent_path)
    pictures = tell_story(
        demo.model,
        demo._carrying(demo._real_env(config.seed + 30_000)),
        policy,
        env_id=config.env,
        out=demo.out,
        seed=config.seed,
    )
    return DemoResult(
        env=config.env,
        seed=config.seed,
        real_steps=demo.real_steps,
        dream_steps=demo.dream_steps,
        seconds=round(time.perf_counter() - begun, 1),
        random_return=round(statistics.fmean(random_returns), 2),
        dream_return=round(statistics.fmean(dream_returns), 2),
        real_return=round(statistics.fmean(real_returns), 2),
        files={"model": str(model_path), "agent": str(agent_path), **{k: str(v) for k, v in pictures.items()}},
        returns={"random": random_returns, "dream": dream_returns, "real": real_returns},
    )


def _annealed(remaining: float) -> float:
    """PPO's learning rate: falls to a twentieth by the end, so that the agent ends on a settled policy."""
    return 1e-3 * max(remaining, 0.05)


def _wants_latent(view: str, model: WorldModel) -> bool:
    if view != "auto":
        return view == "latent"
    kinds = describe_observations(model.observation_spec).values()
    return "decode" not in model.capabilities or not all(isinstance(kind, VectorObservation) for kind in kinds)
