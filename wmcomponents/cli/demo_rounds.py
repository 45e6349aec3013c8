"""The rounds of a demo: real steps, a world model of them, an agent trained in its dreams."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

import torch
from tensordict import TensorDictBase
from torchrl.data import Composite, Unbounded
from torchrl.envs import TransformedEnv

from wmcomponents._interruption import Request
from wmcomponents.cli.demo_agent import DreamAgent
from wmcomponents.cli.demo_config import DemoConfig
from wmcomponents.cli.demo_state import AGENT, DATA, DemoFolder
from wmcomponents.cli.demo_steps import RoundOfSteps
from wmcomponents.cli.device import device_of
from wmcomponents.cli.errors import changed
from wmcomponents.cli.stages import check_stages
from wmcomponents.codecs.from_spec import codecs_from_spec
from wmcomponents.codecs.observation import VectorCodec
from wmcomponents.data import (
    RandomPolicy,
    action_spec,
    load_replay,
    make_env,
    make_replay,
    observation_spec,
    save_replay,
)
from wmcomponents.data.episodes import derived_seed
from wmcomponents.dream.replay_starts import ReplayStarts
from wmcomponents.dream.starts import PriorStarts, Starts
from wmcomponents.integrations.sb3 import DreamVecEnv, SB3Policy
from wmcomponents.integrations.torchrl import LatentPolicy
from wmcomponents.models import make_model
from wmcomponents.training import ConstantThenDecay, Trainer, seed_everything
from wmcomponents.training.progress import progress_bar
from wmcomponents.world_model import WorldModel

BURN_IN = 8
"""Real steps that warm the filter up before a dream may start."""

POOL = 4096
"""States that the dreams of a round begin in."""


class Demo:
    """Collect, fit, dream, repeat. One that was stopped goes on where it was, and ends as if it had not been.

    What comes next hangs on files and on seeds alone: every episode, rollout and phase has a seed of its own, and what
    is in the middle of one is kept with it.

    Args:
        config: what to do.
        request: to stop; looked at wherever all is whole.
        say: receives progress lines.
        progress: show progress bars.
    """

    def __init__(
        self,
        config: DemoConfig,
        *,
        request: Request | None = None,
        say: Callable[[str], None] = print,
        progress: bool = True,
    ) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config = config
        self.request = Request() if request is None else request
        self.say = say
        self.progress = progress
        self.out = demo_folder(config)
        decisive = {key: value for key, value in asdict(config).items() if key not in ("out", "threads", "device")}
        self.folder = DemoFolder(self.out, decisive)
        self.state = self.folder.state
        env = self._real_env()
        self.observation_spec, self.action_spec = observation_spec(env), action_spec(env)
        self.replay = make_replay(
            config.real_steps,
            env,
            sequence_length=config.sequence_length,
            batch_size=config.batch_size,
            seed=config.seed,
            print_fn=say,
        )
        self.folder.when_begun(DATA, lambda path: load_replay(self.replay, path))
        seed_everything(config.seed)
        self.model = make_model(
            config.family, config.preset, self.observation_spec, self.action_spec, **changed(config.changes)
        ).to(device_of(config.device))
        self.latent = _wants_latent(config.view, self.model)
        self._carrying(env)
        self._real_actions = env.action_spec
        env.close()
        self.trainer = Trainer(
            self.model,
            self.replay,
            lr=config.lr,
            warmup=100,
            schedule=ConstantThenDecay(config.updates),
            seed=config.seed,
            progress=progress,
            out=self.folder.path,
        )
        check_stages(self.trainer.objective, config.updates * config.rounds, "--updates times --rounds,")
        self._agent = DreamAgent(config.seed, self.folder.path / AGENT)
        if self.folder.is_begun:
            self._agent.restore(self._dream(PriorStarts(self.model), rows=config.dreams, horizon=config.horizon))

    @property
    def real_steps(self) -> int:
        """Collected so far."""
        return len(self.replay)

    @property
    def agent(self) -> Any:
        """The agent of Stable-Baselines3; ``None`` before the first dream."""
        return self._agent.ppo

    def run_round(self) -> None:
        """Collect with the last round's agent, fit the model to all data, train the agent in the dream."""
        number = self.state.round
        if self.state.phase == "collect":
            self._collect(number)
            self._enter("fit")
        if self.state.phase == "fit":
            self._fit(number)
            self._enter("learn")
        self._learn(number)
        self.state.round += 1
        self._enter("collect")

    def _enter(self, phase: Literal["collect", "fit", "learn"]) -> None:
        self.state.phase = phase
        self.folder.save()
        self.request.check()

    def _collect(self, number: int) -> None:
        config = self.config
        share = config.real_steps // config.rounds
        last = config.real_steps - share * (config.rounds - 1 - number)
        before = last - share if number else 0
        steps = RoundOfSteps(self.replay, self.fresh_env, seed=config.seed, number=number, first=before)
        if self.real_steps < last:
            steps.take(
                last,
                self.policy(explore=True),
                save=lambda: save_replay(self.replay, self.folder.path / DATA),
                request=self.request,
                say=self.say,
            )
            mean = steps.mean_return
            shown = "no episode ended" if mean is None else f"mean return {mean:.1f}"
            who = "at random" if number == 0 else "with the agent"
            self.say(f"round {number + 1}/{config.rounds}: {last - before} real steps {who}, {shown}")
        self.state.longest = max(self.state.longest, steps.count.longest)

    def _fit(self, number: int) -> None:
        if self.trainer.steps > self.config.updates * number:
            self.trainer.resume()  # once more: torch's global generator was used since
        else:
            seed_everything(derived_seed(self.config.seed, "fit", number))
        self.trainer.train(self.config.updates * (number + 1))

    def _learn(self, number: int) -> None:
        config = self.config
        last = number == config.rounds - 1
        steps = config.final_dream_steps if last else config.dream_steps
        dream = self._dream(self.starts(number), rows=config.dreams, horizon=config.horizon)
        with progress_bar(self.progress, "agent in the dream", self._agent.steps_in(number), steps) as show:
            taken = self._agent.learn(
                number,
                dream,
                steps,
                # The agent that counts starts anew: the one trained on keeps the habits of earlier, wrong dreams.
                anew=last,
                request=self.request,
                show=lambda taken: show(taken, {}),
            )
        self.state.dream_steps += taken
        self.say(f"round {number + 1}/{config.rounds}: {self.state.dream_steps:,} dreamed steps so far")

    def starts(self, number: int) -> ReplayStarts:
        """Where the dreams of a round begin: real states, by the model as it is now."""
        sampling, seed = (derived_seed(self.config.seed, what, number) for what in ("sampling", "starts"))
        self.replay.set_rng(torch.Generator().manual_seed(sampling))
        return ReplayStarts(self.model, self.replay.sample, pool_size=POOL, burn_in=BURN_IN, seed=seed).refresh()

    def _dream(self, starts: Starts, *, rows: int, horizon: int) -> DreamVecEnv:
        return DreamVecEnv(
            self.model,
            rows,
            starts=starts,
            horizon=horizon,
            view="latent" if self.latent else "decoded",
            seed=self.config.seed,
        )

    def real_returns(self, policy: Callable[[TensorDictBase], TensorDictBase], seed: int) -> list[float]:
        """Undiscounted returns of fresh episodes in the real environment."""
        from wmcomponents.evaluation.returns import evaluate_policy

        env = self.fresh_env()
        stop = lambda _: self.request.check()  # noqa: E731
        found = evaluate_policy(env, policy, episodes=self.config.episodes, seed=seed, progress=stop)
        env.close()
        self.state.longest = max([self.state.longest, *found.lengths])
        return found.returns

    def dream_returns(self) -> list[float]:
        """Undiscounted returns of dreams from the model's first states, cut where the longest real episode ended."""
        from stable_baselines3.common.evaluation import evaluate_policy

        episodes = self.config.episodes
        dream = self._dream(PriorStarts(self.model), rows=episodes, horizon=self.state.longest)
        found = evaluate_policy(
            self.agent,
            dream,
            n_eval_episodes=episodes,
            return_episode_rewards=True,
            warn=False,
            callback=lambda *_: self.request.check(),
        )
        return [float(value) for value in cast("list[float]", found[0])]

    def policy(self, *, explore: bool) -> Any:
        """The agent as a policy for the real environment; at random before there is one."""
        if self.agent is None:
            random = RandomPolicy(self._real_actions, generator=torch.Generator().manual_seed(self.config.seed))
            return LatentPolicy(self.model, random) if self.latent else random
        if not self.latent:
            return SB3Policy(self.agent, self.observation_spec, self.action_spec, deterministic=not explore)
        width = self.agent.observation_space.shape
        spec = Composite(latent=Unbounded(width))
        return LatentPolicy(self.model, SB3Policy(self.agent, spec, self.action_spec, deterministic=not explore))

    def fresh_env(self) -> TransformedEnv:
        """A real environment that the agent can act in."""
        return self._carrying(self._real_env())

    def _carrying(self, env: TransformedEnv) -> TransformedEnv:
        """The environment with room for the filter's state, where the agent acts on latents."""
        if self.latent:
            env.append_transform(LatentPolicy(self.model, RandomPolicy(env.action_spec)).make_tensordict_primer())
        return env

    def _real_env(self) -> TransformedEnv:
        config = self.config
        return make_env(config.env, max_episode_steps=config.max_episode_steps, from_pixels=config.from_pixels)


def demo_folder(config: DemoConfig) -> Path:
    """Where a demo writes."""
    return config.out or Path("runs") / f"demo-{config.env.replace('/', '-')}-{config.seed}"


def _wants_latent(view: str, model: WorldModel) -> bool:
    if view != "auto":
        return view == "latent"
    kinds = codecs_from_spec(model.observation_spec).values()
    return "decode" not in model.capabilities or not all(isinstance(kind, VectorCodec) for kind in kinds)
