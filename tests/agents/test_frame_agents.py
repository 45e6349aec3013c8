"""IRIS, Delta-IRIS and DIAMOND as whole agents: their parts take turns, and a run goes on where it was killed."""

import pytest
import torch

from tests.support.worlds import PointMass
from wmcomponents.agents import Agent, DeltaIRISAgent, DiamondAgent, Epochs, IRISAgent
from wmcomponents.data import make_env
from wmcomponents.world_model import CapabilityError

TINY = {
    "prefill": 12,
    "batch_size": 2,
    "sequence_length": 6,
    "epochs": (Epochs(begin=12, steps=4, updates=2), Epochs(begin=20, steps=4, updates=4, agent_updates=2)),
    "behaviour": {"dreams": 3, "horizon": 2, "units": 8},
}
"""Updates behind 16 and 20 real steps of the model alone, from 24 on with the behaviour."""
IN_TURNS = {**TINY, "tokenizer_steps": 4, "tokenizer_every": 2}


@pytest.fixture
def breakout():
    env = make_env("MinAtar/Breakout-v1", from_pixels=True, image_size=16)
    yield env
    env.close()


class Stages:
    """Notes what each update trained, and how often the behaviour had learned by then."""

    def __init__(self, agent):
        self.agent, self.seen = agent, []

    def on_train_batch_end(self, trainer, agent, outputs, batch, number):
        trained = "tokenizer" if "loss_commitment" in outputs or "perplexity" in outputs else "transformer"
        self.seen.append((trained, agent.updates))


@pytest.mark.parametrize(("kind", "changes"), [(IRISAgent, IN_TURNS), (DeltaIRISAgent, IN_TURNS), (DiamondAgent, TINY)])
def test_one_part_joins_the_other_and_the_behaviour_comes_last(kind, changes, breakout):
    agent = kind.tiny(breakout, changes=changes, progress=False)
    assert isinstance(agent, Agent)
    notes = Stages(agent)
    agent.trainer.callbacks = [notes]
    before = [p.clone() for p in agent.behaviour.loss.network.parameters()]
    metrics = agent.train(28)
    assert [learned for _, learned in notes.seen] == [0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4]
    if kind is not DiamondAgent:
        assert [part for part, _ in notes.seen] == 4 * ["tokenizer"] + 4 * ["transformer", "tokenizer"]
    assert agent.dreamed_steps == 4 * 3 * 2 and metrics["agent/entropy"] > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, agent.behaviour.loss.network.parameters(), strict=True))


def test_a_run_that_is_stopped_in_the_middle_of_an_epoch_goes_on_to_the_bit(breakout, tmp_path):
    whole = DeltaIRISAgent.tiny(breakout, changes=IN_TURNS, progress=False, seed=3)
    whole.train(28)

    class Killed(BaseException):
        pass

    class Kills:
        def on_train_batch_end(self, trainer, agent, outputs, batch, number):
            if number == 6:
                trainer.save()
            if number == 7:
                raise Killed

    options = {"changes": IN_TURNS, "progress": False, "seed": 3, "out": tmp_path / "run"}
    with pytest.raises(Killed):
        DeltaIRISAgent.tiny(breakout, callbacks=[Kills()], **options).train(28)
    again = DeltaIRISAgent.tiny(breakout, **options)
    assert (again.trainer.real_steps, again.trainer.global_step, again.behaviour.updates) == (24, 7, 1)
    again.train(28)
    for one, other in ((whole.model, again.model), (whole.behaviour.loss.network, again.behaviour.loss.network)):
        assert all(
            torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        )
    assert whole.trainer.episodes == again.trainer.episodes


def test_dreams_begin_in_frames_with_as_many_before_them_as_the_loss_reads(breakout):
    agent = DiamondAgent.tiny(breakout, changes=TINY, progress=False)
    agent.train(20)
    sequences = agent.trainer.replay.sample()
    experience = agent.trainer.experience
    experience.offer(sequences)
    windows = agent.behaviour._behind(experience)
    assert windows.batch_size == (3, 4)  # four frames are the denoiser's context, and three and the first the memory's
    frames = sequences["pixels"].unfold(1, 4, 1).movedim(-1, 2).flatten(0, 1)
    assert all(any(torch.equal(one, other) for other in frames) for one in windows["pixels"])


def test_the_share_of_random_actions_holds_in_reality_and_not_in_the_dream(breakout):
    behaviour = {**TINY["behaviour"], "epsilon": 1.0}
    loss = DiamondAgent.tiny(breakout, changes={**TINY, "behaviour": behaviour}, progress=False).behaviour.loss
    torch.nn.init.constant_(loss.network.actor.bias, 0.0)
    loss.network.actor.bias.data[1] = 50.0
    frames = torch.zeros(300, 16, 16, 3, dtype=torch.uint8)
    noise = torch.linspace(0.001, 0.999, 300).unsqueeze(-1)
    real, dreamt = (
        policy.compute(frames, noise=noise)[0].float().mean(0) for policy in (loss.real_policy, loss.policy)
    )
    assert torch.allclose(real, torch.full((3,), 1 / 3), atol=0.01)
    assert torch.equal(dreamt, torch.tensor([0.0, 1.0, 0.0]))


@pytest.mark.parametrize("kind", [IRISAgent, DeltaIRISAgent, DiamondAgent])
def test_an_agent_of_frames_is_refused_where_there_are_none(kind):
    with pytest.raises(ValueError, match="image"):
        kind.tiny("CartPole-v1", progress=False)
    with pytest.raises(CapabilityError, match="one choice|decode|image"):
        kind.tiny("CartPole-v1", model=PointMass(), progress=False)


@pytest.mark.weekly
def test_codes_of_a_small_board_keep_paddle_and_ball_which_are_one_pixel_each():
    env = make_env("MinAtar/Breakout-v1", from_pixels=True, image_size=10)
    changes = {"grid": 5, "prefill": 600, "epochs": (Epochs(begin=0, steps=600, updates=300),)}
    agent = IRISAgent.tiny(env, changes=changes, progress=False)
    agent.train(600)
    seen = torch.cat([agent.trainer.replay.sample()["pixels"].flatten(0, 1) for _ in range(4)])
    (view,) = agent.behaviour.loss._shown
    drawn = view(seen)
    colours = seen.flatten(0, 2).unique(dim=0)
    real, read = (
        torch.cdist(each.flatten(1, 2).float(), colours.float().expand(len(each), -1, -1)).argmin(-1)
        for each in (seen, drawn)
    )
    kept = {tuple(colour.tolist()): float((read == real)[real == n].float().mean()) for n, colour in enumerate(colours)}
    assert len(kept) == 5 and min(kept.values()) > 0.85, kept
