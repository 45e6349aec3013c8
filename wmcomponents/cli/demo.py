"""The whole story in one command: real steps, a world model of them, an agent trained in the dream, reality again."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.data import Composite, Unbounded
from torchrl.envs import TransformedEnv

from wmcomponents._interruption import Request, postponed
from wmcomponents._lock import one_writer
from wmcomponents._whole import check_place, written_whole
from wmcomponents.cli.demo_config import DemoConfig
from wmcomponents.cli.demo_state import AGENT, DATA, DemoFolder
from wmcomponents.cli.device import device_of
from wmcomponents.cli.errors import changed
from wmcomponents.cli.stages import check_stages
from wmcomponents.codecs.observation import VectorCodec, codecs_from_spec
from wmcomponents.data import (
    RandomPolicy,
    RealCollector,
    action_spec,
    load_replay,
    make_env,
    make_replay,
    observation_spec,
    save_replay,
)
from wmcomponents.dream.starts import PriorStarts, ReplayStarts
from wmcomponents.integrations.sb3 import DreamVecEnv, SB3Policy
from wmcomponents.integrations.torchrl import LatentPolicy
from wmcomponents.models import make_model
from wmcomponents.training import ConstantThenDecay, Trainer, load_checkpoint, save_checkpoint, seed_everything
from wmcomponents.training.progress import progress_bar
from wmcomponents.world_model import WorldModel

BURN_IN = 8
"""Real steps that warm the filter up before a dream may start."""

SAVE_SECONDS = 10.0
"""Between two saves of the agent while it learns."""


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
    """Collect, fit, dream, repeat. A demo that was stopped goes on where it was, with another episode.

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
        self.out = demo_folder(config)
        decisive = {key: value for key, value in asdict(config).items() if key not in ("out", "threads", "device")}
        self.folder = DemoFolder(self.out, decisive)
        self.state = self.folder.state
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
        self.folder.when_begun(DATA, lambda path: load_replay(self.replay, path))
        self.model = make_model(
            config.family, config.preset, self.observation_spec, self.action_spec, **changed(config.changes)
        ).to(device_of(config.device))
        self.latent = _wants_latent(config.view, self.model)
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
        self.starts = ReplayStarts(self.model, self.replay.sample, pool_size=4096, burn_in=BURN_IN, seed=config.seed)
        self.agent: Any = None
        self._done = 0  # steps of the agent in this round's dream, where a demo goes on in the middle of them
        self._carrying(self.env)
        if self.folder.is_begun:
            self._restore_agent()
        # A demo that goes on does not meet the episodes again that it began with.
        self.collector = RealCollector(
            self.env, self.replay, policy=self._policy(explore=True), seed=config.seed + 40_000 * self.folder.is_begun
        )

    @property
    def real_steps(self) -> int:
        """Collected so far."""
        return len(self.replay)

    def run_round(self) -> None:
        """Collect with the last round's agent, fit the model to all data, train the agent in the dream."""
        number = self.state.round
        if self.state.phase == "collect":
            self._collect(number)
            self._enter("fit")
        if self.state.phase == "fit":
            self.trainer.train(self.config.updates * (number + 1))
            self._enter("learn")
        self.starts.refresh()
        self._learn(number)
        self.state.round += 1
        self._enter("collect")

    def _enter(self, phase: Literal["collect", "fit", "learn"]) -> None:
        self.state.phase = phase
        self.folder.save()

    def _collect(self, number: int) -> None:
        config = self.config
        share = config.real_steps // config.rounds
        steps = config.real_steps - share * (config.rounds - 1 - number) - self.real_steps
        if steps < 1:  # stopped just behind the last one
            return
        self.collector.policy = self._policy(explore=True)
        with postponed() as request:

            def stop_if_asked(_: int) -> None:
                if request:
                    save_replay(self.replay, self.folder.path / DATA)
                    self.folder.save()
                    request.check()

            stats = self.collector.collect(steps, progress=stop_if_asked)
            self.state.longest = max([self.state.longest, *stats.lengths])
            save_replay(self.replay, self.folder.path / DATA)
        shown = f"mean return {statistics.fmean(stats.returns):.1f}" if stats.returns else "no episode ended"
        who = "at random" if number == 0 else "with the agent"
        self.say(f"round {number + 1}/{config.rounds}: {stats.frames} real steps {who}, {shown}")

    def _learn(self, number: int) -> None:
        config = self.config
        last = number == config.rounds - 1
        dream = self._dream()
        done = self._done
        if done:
            self.agent.set_env(dream)
        elif self.agent is not None and not last:
            self.agent.set_env(dream)
        else:
            # The agent that counts starts anew: the one trained on keeps the habits of earlier, wrong dreams.
            self.agent = self._new_agent(dream)
        steps = config.final_dream_steps if last else config.dream_steps
        if done < steps:
            with progress_bar(self.progress, "agent in the dream", done, steps) as show, postponed() as request:
                watch = saving(request, lambda: self._save_agent(number), lambda taken: show(taken, {}))
                # The learning rate anneals over the steps of one round, each of which counts its own from zero.
                self.agent.learn(steps - done, callback=watch, reset_num_timesteps=not done)
                self._save_agent(number)
        self._done = 0
        self.state.dream_steps += self.agent.num_timesteps
        self.say(f"round {number + 1}/{config.rounds}: {self.state.dream_steps:,} dreamed steps so far")

    def _dream(self) -> Any:
        from stable_baselines3.common.vec_env import VecMonitor

        return VecMonitor(
            DreamVecEnv(
                self.model,
                self.config.dreams,
                starts=self.starts,
                horizon=self.config.horizon,
                view="latent" if self.latent else "decoded",
                seed=self.config.seed,
            )
        )

    def _new_agent(self, dream: Any) -> Any:
        from stable_baselines3 import PPO

        return PPO(
            "MlpPolicy",
            dream,
            n_steps=max(8, 1024 // self.config.dreams),
            batch_size=256,
            n_epochs=10,
            learning_rate=_annealed,
            seed=self.config.seed,
            device="cpu",
        )

    def _save_agent(self, number: int) -> None:
        policy = self.agent.policy
        counters = {"round": number, "steps": self.agent.num_timesteps}
        save_checkpoint(
            self.folder.path / AGENT, model=policy, objective=policy, optimizer=policy.optimizer, generators={},
            counters=counters,
        )  # fmt: skip

    def _restore_agent(self) -> None:
        """The agent as it was saved last: of the round before, or on its way through this one."""
        if not (self.folder.path / AGENT).exists():
            return
        self.agent = self._new_agent(self._dream())
        policy = self.agent.policy
        counters = load_checkpoint(
            self.folder.path / AGENT, model=policy, objective=policy, optimizer=policy.optimizer, generators={},
            check=lambda found: _check_counts(found["round"], found["steps"]),
        )  # fmt: skip
        if counters["round"] == self.state.round:
            self._done = self.agent.num_timesteps = counters["steps"]

    def real_returns(self, policy: Callable[[TensorDictBase], TensorDictBase], seed: int) -> list[float]:
        """Undiscounted returns of fresh episodes in the real environment."""
        from wmcomponents.evaluation.returns import evaluate_policy

        env = self._carrying(self._real_env(seed))
        found = evaluate_policy(env, policy, episodes=self.config.episodes, seed=seed)
        self.state.longest = max([self.state.longest, *found.lengths])
        return found.returns

    def dream_returns(self) -> list[float]:
        """Undiscounted returns of dreams from the model's first states, cut where the longest real episode ended."""
        from stable_baselines3.common.evaluation import evaluate_policy

        dream = DreamVecEnv(
            self.model,
            self.config.episodes,
            starts=PriorStarts(self.model),
            horizon=self.state.longest,
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
    """Run the demo from the first random step to the last image.

    Args:
        config: what to do.
        say: receives progress lines.
        progress: show progress bars on standard error.

    Returns:
        Mean returns over ``config.episodes`` episodes each, and the files written.
    """
    begun = time.perf_counter()
    check_place(demo_folder(config))
    with one_writer(demo_folder(config)):
        return _run(Demo(config, say=say, progress=progress), begun)


def _run(demo: Demo, begun: float) -> DemoResult:
    from wmcomponents.evaluation.report import dream_report

    config, state = demo.config, demo.state
    if demo.folder.is_begun:
        demo.say(f"going on in round {state.round + 1} of {config.rounds}, with {demo.real_steps} real steps")
    else:
        state.random_returns = demo.real_returns(demo._policy(explore=True), seed=config.seed + 10_000)
        demo.folder.save()
    while state.round < config.rounds:
        demo.run_round()
    demo.collector.close()
    policy = demo.final_policy()
    random_returns = state.random_returns
    real_returns = demo.real_returns(policy, seed=config.seed + 20_000)
    dream_returns = demo.dream_returns()
    model_path = demo.model.save_pretrained(demo.out / "model", starts=demo.starts.pool)
    agent_path = demo.out / "agent.zip"
    with written_whole(agent_path) as file:
        demo.agent.save(file)
    images = dream_report(
        demo.model,
        demo._carrying(demo._real_env(config.seed + 30_000)),
        policy,
        env_id=config.env,
        out=demo.out,
        seed=config.seed,
    )
    real_steps = demo.real_steps
    demo.folder.finish()
    return DemoResult(
        env=config.env,
        seed=config.seed,
        real_steps=real_steps,
        dream_steps=state.dream_steps,
        seconds=round(time.perf_counter() - begun, 1),
        random_return=round(statistics.fmean(random_returns), 2),
        dream_return=round(statistics.fmean(dream_returns), 2),
        real_return=round(statistics.fmean(real_returns), 2),
        files={"model": str(model_path), "agent": str(agent_path), **{k: str(v) for k, v in images.items()}},
        returns={"random": random_returns, "dream": dream_returns, "real": real_returns},
    )


def demo_folder(config: DemoConfig) -> Path:
    """Where a demo writes."""
    return config.out or Path("runs") / f"demo-{config.env.replace('/', '-')}-{config.seed}"


def saving(request: Request, save: Callable[[], None], show: Callable[[int], None]) -> Any:
    """A callback of Stable-Baselines3 that saves between two updates: every few seconds, and when asked to stop."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Saving(BaseCallback):
        saved = time.monotonic()

        def _on_rollout_start(self) -> None:
            if request or time.monotonic() >= self.saved + SAVE_SECONDS:
                save()
                self.saved = time.monotonic()
            request.check()

        def _on_step(self) -> bool:
            show(self.num_timesteps)
            return True

    return Saving()


def _check_counts(*counts: Any) -> None:
    if any(type(count) is not int or count < 0 for count in counts):
        raise ValueError("its counters are no counts")


def _annealed(remaining: float) -> float:
    """PPO's learning rate: falls to a twentieth by the end, so that the agent ends on a settled policy."""
    return 1e-3 * max(remaining, 0.05)


def _wants_latent(view: str, model: WorldModel) -> bool:
    if view != "auto":
        return view == "latent"
    kinds = codecs_from_spec(model.observation_spec).values()
    return "decode" not in model.capabilities or not all(isinstance(kind, VectorCodec) for kind in kinds)
