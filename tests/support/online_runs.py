"""Short online runs of a small DreamerV3 in a world whose chance comes from its seed."""

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from wmcomponents.agents import OnlineTrainer
from wmcomponents.agents.actor_critic import ImaginationAgent, dreamer_v3_loss
from wmcomponents.agents.schedule import Schedule
from wmcomponents.data import make_env, make_replay
from wmcomponents.models import DreamerV3, DreamerV3Config

SIZES = {"deter": 16, "hidden": 8, "groups": 2, "classes": 3, "units": 8, "blocks": 2, "layers": 1, "bins": 11}
SCHEDULE = Schedule(prefill=24, updates_per_step=0.2, evaluate_every=24, evaluate_episodes=1)
STEPS = 60


class Drift(gymnasium.Env):
    """A place that drifts by chance and by the action; an episode ends by chance, after 20 steps at the latest.

    Args:
        forgets: do not repeat an episode whose seed is given again.
        strange: what the reward is at step 30 in all, over all episodes of this copy; "raise" raises an error there.
    """

    def __init__(self, forgets=False, strange=None):
        self.observation_space = spaces.Box(-100.0, 100.0, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.forgets, self.strange, self.taken = forgets, strange, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=None if self.forgets else seed)
        self.place, self.clock = self.np_random.normal(size=3), 0
        return self.place.astype(np.float32), {}

    def step(self, action):
        self.place = self.place + 0.1 * self.np_random.normal(size=3) + (0.2 if action else -0.2)
        self.clock += 1
        self.taken += 1
        reward = float(self.place[0])
        if self.strange is not None and self.taken == 30:
            if self.strange == "raise":
                raise RuntimeError("the simulator is gone")
            reward = self.strange
        ends = bool(self.np_random.random() < 0.1)
        return self.place.astype(np.float32), reward, ends, self.clock == 20, {}


def agent_of(model, **options):
    loss = dreamer_v3_loss(model, units=8, horizon=3).to(next(model.parameters()).device)
    return ImaginationAgent(loss, optimizer=loss.make_optimizer(lr=1e-3, warmup=4), replay_scale=0.3, **options)


def run(out=None, *, streams=1, schedule=SCHEDULE, world=None, device="cpu", agent=agent_of, **options):
    """A trainer, the same for the same arguments; its model and the agent that is made in it on a device."""
    torch.manual_seed(0)
    world = {} if world is None else world

    def make():
        return make_env(Drift, env_kwargs=world)

    one = make()
    model = DreamerV3(DreamerV3Config.tiny(**SIZES), one).to(device)
    replay = make_replay(400, make_env(Drift, num_envs=streams), sequence_length=8, batch_size=2, seed=0, print_fn=None)
    one.close()
    options = {"save_seconds": 1e9, "progress": False, "lr": 1e-3, "warmup": 4, **options}
    return OnlineTrainer(make, agent(model), replay, schedule, num_envs=streams, out=out, **options)


def weights(trainer):
    """All that a run has learnt, as one vector."""
    modules = (trainer.trainer.model, trainer.agent.loss)
    return torch.cat([value.detach().flatten() for module in modules for value in module.state_dict().values()])
