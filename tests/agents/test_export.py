"""What a run from Python leaves is opened as what a command leaves."""

import json

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Composite, OneHot, Unbounded

from tests.support.online_runs import run
from wmcomponents.agents import DreamerV3Agent
from wmcomponents.agents.actor_critic import ImaginationAgent, MixedGradient, OneLaProp, TwoAdams, dreamer_v2_loss
from wmcomponents.agents.behaviour_json import NotPlainError, from_json, to_json
from wmcomponents.agents.export import start_states
from wmcomponents.cli.agent_folder import agent_facts, load_agent_folder
from wmcomponents.cli.errors import UsageError
from wmcomponents.cli.known_agents import AGENTS, resolved
from wmcomponents.data import Priorities, collect, make_env, make_replay
from wmcomponents.evaluation import DreamFilms
from wmcomponents.models.loading import load, load_with_starts
from wmcomponents.pretrained.training_note import training_facts
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.training import LinearDecay

FEW = {"prefill": 20, "pretrain": 2, "batch_size": 2, "sequence_length": 4, "evaluate_every": 20}


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    """A whole agent after a few steps, with its folder; it is only read."""
    out = tmp_path_factory.mktemp("agent")
    agent = DreamerV3Agent.tiny("CartPole-v1", changes={**FEW, "evaluate_episodes": 1}, out=out, progress=False)
    agent.train(20)
    return agent


def test_a_whole_agent_s_best_is_opened_without_its_run(agent):
    best = agent.trainer.out / "best"
    model, starts = load_with_starts(best / "model")
    assert starts["deter"].shape[0] == 256 and bool(torch.isfinite(starts["deter"]).all())
    loaded = load_agent_folder(best, model)
    assert loaded.loss.optimizer == agent.behaviour.loss.optimizer and loaded.dreams == 128
    latent = TensorDict(
        {"latent": torch.randn(3, agent.model.features(agent.model.initial_state((1,))).shape[-1])}, [3]
    )
    actors = [one.dream_policy.raw(latent["latent"]) for one in (agent.behaviour, loaded)]
    assert torch.equal(*actors)
    noted = training_facts(best / "model")
    assert (noted["env"], noted["steps"], noted["family"]) == ("CartPole-v1", 2, "DreamerV3")
    facts = agent_facts(best)
    assert facts["agent"] == "dreamer_v3" and facts["steps"] == 20 and facts["env_options"]["from_pixels"] is False


def test_an_export_draws_nothing_of_the_run(agent):
    trainer = agent.trainer
    before = torch.get_rng_state(), trainer.trainer.sampling.get_state(), trainer.experience.generator.get_state()
    trainer.export("again")
    after = torch.get_rng_state(), trainer.trainer.sampling.get_state(), trainer.experience.generator.get_state()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert trainer.replay._rng is trainer.trainer.sampling
    one, other = (load_with_starts(trainer.out / name / "model").starts for name in ("again", "best"))
    assert torch.equal(one["stoch"], other["stoch"])


def test_a_sampler_that_counts_its_draws_counts_none_of_an_export():
    env = make_env("CartPole-v1")
    replay = make_replay(32, env, sequence_length=4, batch_size=8, priorities=Priorities(), seed=0, print_fn=None)
    collect(env, replay, 16, seed=0)
    model = ToyWorldModel(Composite(observation=Unbounded(4)), OneHot(2))
    replay.sample()
    start_states(model, replay, torch.Generator(), seed=0)
    assert replay.sampler.draws == 1


@pytest.mark.gpu
def test_a_whole_agent_on_a_gpu_leaves_folders_for_a_cpu(tmp_path):
    films = DreamFilms(steps=4, burn_in=2)
    agent = DreamerV3Agent.tiny(
        "CartPole-v1", changes=FEW, out=tmp_path, device="cuda", progress=False, callbacks=[films]
    )  # fmt: skip
    agent.train(20)
    actors = (
        agent.behaviour.loss.actor,
        load_agent_folder(tmp_path / "best", load(tmp_path / "best" / "model")).loss.actor,
    )
    weights = [one.out.weight for one in actors]
    assert [one.device.type for one in weights] == ["cuda", "cpu"] and torch.equal(weights[0].cpu(), weights[1])
    assert len(list((tmp_path / "films").iterdir())) == 1


def test_a_behaviour_of_one_s_own_is_kept_and_not_said_to_be_the_paper_s(tmp_path):
    def own(model):
        return ImaginationAgent(dreamer_v2_loss(model, units=8))

    agent = DreamerV3Agent.tiny("CartPole-v1", behaviour=own, out=tmp_path, progress=False)
    agent.trainer.export("now")
    assert (tmp_path / "now" / "agent.safetensors").is_file() and agent_facts(tmp_path / "now") == {}
    assert training_facts(tmp_path / "now" / "model")["env"] == "CartPole-v1"
    with pytest.raises(UsageError, match="holds no agent"):
        load_agent_folder(tmp_path / "now", agent.model)


def test_a_model_that_was_put_together_by_hand_is_left_out(tmp_path):
    trainer = run(tmp_path)
    trainer.agent.model.config = None
    trainer.export("now")
    assert [path.name for path in (tmp_path / "now").iterdir()] == ["agent.safetensors"]


@pytest.mark.parametrize("whole", [known.whole for known in AGENTS.values() if known.whole])
def test_the_arguments_of_every_paper_s_behaviour_come_back_from_json(whole):
    numbers = resolved(whole).tiny_config().behaviour
    told = to_json(numbers)
    again = from_json(json.loads(json.dumps(told)))
    assert to_json(again) == told and {key: type(value) for key, value in again.items()} == {
        key: type(value) for key, value in numbers.items()
    }


def test_parts_among_the_arguments_come_back_and_others_are_refused():
    given = {"optimizer": TwoAdams(1e-3, 3e-3, eps=1e-7), "schedule": LinearDecay(7, floor=0.5), "sizes": (1, 2)}
    assert from_json(to_json(given)) == given
    mixed = from_json(to_json({"estimator": MixedGradient(0.3)}))["estimator"]
    assert type(mixed) is MixedGradient and mixed.dynamics == 0.3
    with pytest.raises(NotPlainError, match="a Linear is no plain value"):
        to_json({"actor": torch.nn.Linear(1, 1)})
    for odd, said in (({"part": "eval"}, "no part 'eval'"), ({"part": "OneLaProp", "rate": 1}, "OneLaProp: ")):
        with pytest.raises(ValueError, match=said):
            from_json({"optimizer": odd})
    assert from_json(to_json(OneLaProp(1.0, critic_lr=None))) == OneLaProp(1.0)


def test_a_damaged_note_is_refused_in_words(tmp_path, agent):
    facts = json.loads((agent.trainer.out / "best" / "agent.json").read_text())
    for odd in ({"part": "eval"}, 3, [1]):
        (tmp_path / "agent.json").write_text(json.dumps({**facts, "behaviour": odd}))
        with pytest.raises(UsageError, match="is damaged"):
            load_agent_folder(tmp_path, agent.model)
