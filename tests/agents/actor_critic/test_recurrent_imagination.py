"""Recurrent actor-critics in dreams: where they begin, what they learn, and what they leave alone."""

import copy

import pytest
import torch
from torchrl.data import Bounded, Composite, OneHot, Unbounded
from torchrl.envs import InitTracker, TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type

from tests.support.two_arms import TwoArms, sequences
from wmcomponents.agents.actor_critic import RecurrentAgent, delta_iris_loss, diamond_loss, iris_loss
from wmcomponents.agents.agent import Agent
from wmcomponents.agents.dream_trainer import DreamTrainer
from wmcomponents.dream import PriorStarts
from wmcomponents.dream.experience import Experience
from wmcomponents.integrations.torchrl import TorchRLDreamEnv
from wmcomponents.models import IRIS, DeltaIRIS, Diamond, DreamerV3, IRISConfig
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.world_model import CapabilityError

PAPERS = [iris_loss, delta_iris_loss, diamond_loss]
SMALL = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))


def loss_of(paper=diamond_loss, model=None, **changes):
    torch.manual_seed(0)
    return paper(TwoArms() if model is None else model, **{"units": 16, "horizon": 5, **changes})


@pytest.mark.parametrize("paper", PAPERS)
def test_every_parameter_of_actor_and_critic_learns_and_the_world_does_not(paper):
    model = TwoArms(end=0.1)
    loss = loss_of(paper, model)
    with torch.no_grad():  # heads that begin at zero pass nothing back
        for head in (loss.network.actor, loss.network.critic):
            torch.nn.init.normal_(head.weight)
    before = copy.deepcopy(model.state_dict())
    out = loss(sequences(model))
    sum(value for name, value in out.items() if name.startswith("loss_")).backward()
    assert all(value.shape == () for value in out.values())
    assert model.training and model.gain.grad is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is not None and bool(p.grad.any()) for p in loss.network.parameters())
    assert len(list(loss.make_optimizer().param_groups[0]["params"])) == len(list(loss.network.parameters()))


@pytest.mark.parametrize("name", ["IRIS", "DeltaIRIS", "Diamond", "DreamerV3"])
def test_models_of_frames_are_dreamt_in_by_every_paper(name):
    model = {"IRIS": IRIS, "DeltaIRIS": DeltaIRIS, "Diamond": Diamond, "DreamerV3": DreamerV3}[name](
        "tiny", SMALL, OneHot(3)
    )
    data = sequences(model, rows=2, length=3)
    before = copy.deepcopy(model.state_dict())
    for paper in PAPERS:
        loss = loss_of(paper, model, units=8, horizon=2)
        first = loss(data)
        loss.generator.manual_seed(0)
        again = loss(data)
        assert all(torch.isfinite(first[key]) and torch.equal(first[key], again[key]) for key in first.keys())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_boards_of_planes_are_read_too():
    model = TwoArms(shape=(10, 10, 4), dtype=torch.bool)
    out = loss_of(model=model)(sequences(model))
    assert bool(torch.isfinite(out["loss_actor"]))


def test_a_dream_begins_in_the_last_real_frame_behind_the_memory_of_those_before():
    model = TwoArms()
    loss = loss_of(iris_loss, model, burn_in=2)
    data = sequences(model, length=5)
    data["is_init"][3, 3] = True
    dreamt = loss.dream(data)
    assert torch.equal(dreamt.frames[:, 0], data["pixels"][:, -1])
    with torch.no_grad():
        hx, cx = loss.network.initial_state(16)
        for t in (2, 3):
            if t == 3:
                hx[3], cx[3] = 0.0, 0.0
            _, _, hx, cx = loss.network.step(data["pixels"][:, t], hx, cx)
        by_hand = loss.network.step(data["pixels"][:, 4], hx, cx)
    torch.testing.assert_close(dreamt.logits[:, 0], by_hand.logits)
    assert torch.equal(dreamt.frames[:, 1, 0, 0, 0] > 0, dreamt.action[:, 0] == 1)


def test_the_same_seed_is_the_same_loss_and_another_is_not():
    model = TwoArms(end=0.2)
    found = [loss_of(model=model, seed=seed).dream(sequences(model)).action for seed in (0, 0, 1)]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_an_end_stops_the_return_and_what_follows_is_each_papers_own():
    model = TwoArms(end=1.0)
    data = sequences(model)
    for paper in PAPERS:
        loss = loss_of(paper, model)
        dreamt = loss.dream(data)
        assert bool(dreamt.ended.all())
        loss.generator.manual_seed(0)
        assert float(loss(data)["return"]) == pytest.approx(float(dreamt.reward.mean()))
    restarted = loss_of(diamond_loss, model).dream(data).frames
    assert torch.equal(restarted[:, 1], data["pixels"][:, -1].roll(1, 0))


def test_a_step_behind_the_end_counts_for_nothing_in_delta_iris():
    model = TwoArms(end=1.0)
    loss, plain = (loss_of(delta_iris_loss, model, horizon=horizon) for horizon in (4, 1))
    assert loss.target_network is not None
    uniform = torch.log(torch.tensor(2.0))
    for one in (loss, plain):
        torch.nn.init.zeros_(one.network.actor.weight)
        torch.nn.init.zeros_(one.network.actor.bias)
        assert one(sequences(model))["loss_entropy"].item() == pytest.approx(-2e-3 * float(uniform))
        assert float(one(sequences(model))["dream_length"]) == 1.0


def test_delta_iriss_target_follows_slowly():
    loss = loss_of(delta_iris_loss)
    with torch.no_grad():
        loss.network.critic.bias += 1.0
    loss.after_update(0)
    assert float(loss.target_network.critic.bias) == pytest.approx(0.005)


@pytest.mark.parametrize("paper", PAPERS)
def test_it_learns_which_arm_pays(paper):
    torch.manual_seed(0)
    model = TwoArms()
    loss = paper(model, units=16, horizon=4, burn_in=1, discount=0.5)
    data = sequences(model, rows=8, length=2)
    trainer = DreamTrainer(loss, lambda: data, optimizer=loss.make_optimizer(lr=1e-2, warmup=0))
    first = loss.dream(data).reward.mean()
    trainer.train(15)
    assert float(loss.dream(data).reward.mean()) > 0.95 > float(first)
    assert trainer.dreamed_steps == 15 * 8 * 4


def test_the_policy_in_a_dream_and_in_reality_is_one():
    model = TwoArms()
    policy = loss_of(model=model).policy
    torch.nn.init.normal_(policy.network.actor.weight)

    def played():
        env = TransformedEnv(TorchRLDreamEnv(model, [3], seed=0, horizon=4, starts=PriorStarts(model)), InitTracker())
        env.append_transform(policy.make_tensordict_primer())
        env.set_seed(0)
        return env

    with torch.no_grad(), set_exploration_type(ExplorationType.MODE):
        seen = played().rollout(9, policy, break_when_any_done=False)
        hx, cx = policy.network.initial_state(3)
        for t in range(9):
            again = policy(seen[:, t].exclude("action", "hx", "cx", "next").set("hx", hx).set("cx", cx))
            assert torch.equal(again["action"], seen[:, t]["action"])
            hx, cx = again["next", "hx"], again["next", "cx"]
    assert bool(seen["is_init"][:, 4].all()) and not bool(seen["hx"][:, 4].any())
    assert bool(seen["hx"][:, 1].any())


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_the_policy_takes_any_batch(lead):
    policy = loss_of().policy
    frames = torch.randint(256, (*lead, 8, 8, 3), dtype=torch.uint8)
    with torch.no_grad():
        action, log_prob, hx, cx = policy(pixels=frames, is_init=torch.ones(*lead, 1, dtype=torch.bool))
    assert action.shape == (*lead, 2) and log_prob.shape == lead and hx.shape == cx.shape == (*lead, 16)


def test_exploration_draws_and_else_the_likeliest_is_taken():
    policy = loss_of().policy
    frames = torch.zeros(200, 8, 8, 3, dtype=torch.uint8)
    torch.nn.init.constant_(policy.network.actor.bias[1:], 1.0)
    with torch.no_grad(), set_exploration_type(ExplorationType.MODE):
        assert bool(policy(pixels=frames)[0][:, 1].all())
    with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
        action, log_prob, *_ = policy(pixels=frames)
    chosen = action.long().argmax(-1)
    assert 0.6 < float(chosen.float().mean()) < 0.85
    expected = torch.tensor([0.0, 1.0]).log_softmax(-1)[chosen]
    torch.testing.assert_close(log_prob, expected)


def test_iris_reads_reality_through_its_tokenizer_and_its_dream_as_it_is():
    model = IRIS(IRISConfig.tiny(), SMALL, OneHot(3))
    loss = loss_of(iris_loss, model, units=8, horizon=2)
    data = sequences(model, rows=2, length=2)
    shown = model.tokenizer.pixels(model.tokenizer.tokens(data["pixels"][:, -1]))
    assert torch.equal(loss.dream(data).frames[:, 0], shown)
    real, dream = loss.real_policy, loss.policy
    with torch.no_grad(), set_exploration_type(ExplorationType.MODE):
        torch.testing.assert_close(real(pixels=data["pixels"][:, -1])[2], dream(pixels=shown)[2])
    assert not any("tokenizer" in name for name in loss.state_dict())


def test_the_agent_learns_and_goes_on_to_the_bit():
    def agent():
        return RecurrentAgent(loss_of(delta_iris_loss))

    def experience(one):
        return Experience(one.model, lambda: sequences(one.model))

    whole, stopped, resumed = agent(), agent(), agent()
    assert isinstance(whole, Agent)
    for _ in range(3):
        told = whole.learn(experience(whole))
    stopped.learn(experience(stopped))
    resumed.load_state_dict(copy.deepcopy(stopped.state_dict()))
    for _ in range(2):
        resumed.learn(experience(resumed))
    expected = whole.loss.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.loss.state_dict().items())
    assert resumed.dreamed_steps == 3 * 16 * 5 and "loss_entropy" in told


def test_wrong_pairs_are_refused_with_the_reason():
    vectors = ToyWorldModel(Composite(observation=Unbounded(3)), OneHot(2))
    with pytest.raises(CapabilityError, match="one image"):
        iris_loss(vectors)
    with pytest.raises(CapabilityError, match="one choice"):
        diamond_loss(ToyWorldModel(SMALL, Bounded(-1, 1, (2,))))
    with pytest.raises(CapabilityError, match="decode"):
        diamond_loss(ToyWorldModel(SMALL, OneHot(2), parts=("reward",)))
    with pytest.raises(CapabilityError, match="channels last"):
        diamond_loss(ToyWorldModel(Composite(pixels=Bounded(0, 255, (3, 16, 16), dtype=torch.uint8)), OneHot(2)))
    loss = loss_of()
    with pytest.raises(TypeError, match="replay.sample"):
        DreamTrainer(loss, PriorStarts(loss.world_model))
    with pytest.raises(KeyError, match="is_init"):
        loss(sequences(loss.world_model).exclude("is_init"))
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        loss(sequences(loss.world_model)[0])
    with pytest.raises(ValueError, match="ends"):
        loss_of(ends="never")
