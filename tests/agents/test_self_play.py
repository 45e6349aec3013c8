"""MuZero's and EfficientZero's whole agents: what the search found lies beside each real step, is found anew, lasts."""

import pytest
import torch

from wmcomponents.agents import Agent, DreamerV3Agent, EfficientZeroAgent, MuZeroAgent, SelfPlayAgent
from wmcomponents.agents.draws import draws_of, own_draws, with_draws
from wmcomponents.agents.self_play import VisitTemperature, searched_anew, stored_states
from wmcomponents.data import Priorities, make_env
from wmcomponents.data.board_games import BoardGameEnv, PerfectPlay, play_match, tic_tac_toe
from wmcomponents.dream.experience import Experience
from wmcomponents.models import DreamerV3, MuZero, MuZeroConfig
from wmcomponents.training import Ranks
from wmcomponents.world_model import CapabilityError, LatentPolicy

NETS = {"units": 8, "lstm": 8, "projection": 8, "bottleneck": 8, "hidden": 8}
FEW = {
    "prefill": 24, "pretrain": 1, "updates_per_step": 0.1, "steps_between": 2, "batch_size": 2, "sequence_length": 6,
    "num_envs": 2, "capacity": 200, "unroll": 2, "starts": 2, "priorities": Priorities(),
}  # fmt: skip
MUZERO = {**FEW, "units": 8, "behaviour": {"simulations": 3, "reanalyze": 0.5, "keep_values": True}}
EFFICIENT = {**FEW, **NETS, "behaviour": {"simulations": 3, "keep_values": False}}


def agent(kind=MuZeroAgent, out=None, **changes):
    few = MUZERO if kind is MuZeroAgent else EFFICIENT
    return kind.tiny("CartPole-v1", changes={**few, **changes}, out=out, progress=False, save_seconds=1e9)


def stored(one):
    return one.trainer.replay.storage[:].exclude("index")


@pytest.fixture(scope="module")
def played():
    """A short run of MuZero; only read."""
    one = agent()
    one.train(60)
    return one


def test_what_the_search_found_lies_beside_each_step_that_it_chose(played):
    assert isinstance(played, Agent) and isinstance(played.behaviour, SelfPlayAgent)
    steps = stored(played)
    searched = steps["search", "mask"].squeeze(-1)
    reanalyzed = searched[:12]  # random ones, where a sequence was drawn since
    assert searched[12:].all() and not reanalyzed.all()
    policy, value = steps["search", "policy"], steps["search", "value"]
    assert torch.allclose(policy.sum(-1), searched.float()) and bool((value[~searched] == 0).all())
    assert played.behaviour.updates == played.trainer.global_step > 2


@pytest.mark.parametrize("kind", [MuZeroAgent, EfficientZeroAgent])
def test_a_run_in_pieces_is_the_run_in_one_piece_to_the_bit(kind, tmp_path, played):
    one = played if kind is MuZeroAgent else agent(kind)
    one.train(60)
    for steps in (37, 60):
        other = agent(kind, tmp_path)
        other.train(steps)
    for a, b in zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert (stored(one) == stored(other)).all()
    tree, again = one.trainer.replay.sampler.tree, other.trainer.replay.sampler.tree
    assert torch.equal(tree.values, again.values) and len(tree.values.unique()) > 2
    if kind is EfficientZeroAgent:
        assert "value" not in stored(one)["search"].keys()


def test_an_evaluation_leaves_the_run_as_it_was(played):
    policy = played.behaviour.real_policy
    before = policy.generator_state()
    played.trainer.schedule = played.trainer.schedule.vary(evaluate_episodes=2)
    assert played.evaluate() >= 8 and torch.equal(before, policy.generator_state())


def test_old_states_are_searched_anew_with_the_model_as_it_is_now(played):
    behaviour, replay = played.behaviour, played.trainer.replay
    batch = replay.sample()
    experience = Experience(played.model, replay.sample, rewrite=replay.rewrite)
    state = behaviour.state_dict()
    for _ in range(2):  # one of them is due at a share of a half
        experience.offer(batch)
        behaviour.learn(experience)
    behaviour.load_state_dict(state)
    rows, streams = batch["index"].unbind(-1)
    now = stored(played)[rows, streams]
    states, is_known = stored_states(played.model, batch)
    plan = behaviour.search.plan(states)
    assert is_known.all() and now["search", "mask"].all()
    torch.testing.assert_close(now["search", "policy"], plan.target)
    torch.testing.assert_close(now["search", "value"], plan.value)


def test_where_past_frames_are_missing_nothing_is_found():
    env = make_env("CartPole-v1")
    torch.manual_seed(0)
    model = MuZero(MuZeroConfig.tiny(units=8, past=2), env)
    steps = env.rollout(5)[None].contiguous()
    assert stored_states(model, steps)[1].tolist() == [[True] * 5]
    steps["is_init"][:] = False
    found = searched_anew(MuZeroAgent.behaviour_in(model, simulations=1).search, steps, with_values=False)
    assert found[1].tolist() == [[False, False, True, True, True]]
    assert set(found[0]) == {("search", "policy"), ("search", "mask")}


def test_states_of_stored_steps_are_the_filter_s():
    env = make_env("CartPole-v1")
    torch.manual_seed(0)
    model = MuZero(MuZeroConfig.tiny(units=8, past=1), env)
    policy = LatentPolicy(model, MuZeroAgent.behaviour_in(model, simulations=1).dream_policy)
    env.append_transform(policy.make_tensordict_primer())
    with torch.no_grad():
        played = env.rollout(4, policy)
    torch.testing.assert_close(stored_states(model, played[None])[0]["latent"][0], played["latent"])


def test_each_process_of_several_plays_games_of_its_own(played):
    state = played.behaviour.state_dict()
    places = list(draws_of(state))
    assert len(places) == 2  # the filter's and the search's
    other = with_draws(state, own_draws(state, Ranks(1, 2), 0))
    assert not any(torch.equal(a, b) for a, b in zip(other["draws"], state["draws"], strict=True))


def test_the_temperature_falls_with_the_updates():
    model = MuZero(MuZeroConfig.tiny(units=8), make_env("CartPole-v1"))
    behaviour = MuZeroAgent.behaviour_in(model, simulations=1, temperature={0: 1.0, 2: 0.5})
    experience = Experience(model)
    seen = []
    for _ in range(3):
        seen.append(behaviour.search.choice.temperature)
        behaviour.learn(experience)
    assert seen == [1.0, 1.0, 0.5]
    with pytest.raises(ValueError, match="begins at update 0"):
        VisitTemperature({5: 1.0})


def test_what_cannot_play_itself_is_refused_with_the_remedy():
    dreamer = DreamerV3("tiny", make_env("CartPole-v1"))
    with pytest.raises(CapabilityError, match="no policy to teach"):
        MuZeroAgent.behaviour_in(dreamer)
    model = MuZero(MuZeroConfig.tiny(units=8), make_env("CartPole-v1"))
    with pytest.raises(ValueError, match="choose one of muzero, gumbel"):
        MuZeroAgent.behaviour_in(model, search="alphazero")
    with pytest.raises(ValueError, match="share"):
        MuZeroAgent.behaviour_in(model, reanalyze=2.0)


def test_priorities_that_nobody_knows_are_refused():
    with pytest.raises(ValueError, match="without priorities"):
        DreamerV3Agent.tiny("CartPole-v1", changes={"priorities": Priorities()}, progress=False)


def test_two_players_learn_from_legal_moves_whose_rewards_are_the_mover_s():
    few = {
        "num_envs": 2, "prefill": 32, "pretrain": 1, "sequence_length": 6, "batch_size": 2, "channels": 4,
        "behaviour": {"simulations": 3, "reanalyze": 1.0},
    }  # fmt: skip
    one = MuZeroAgent.board_game(lambda: make_env(BoardGameEnv(tic_tac_toe())), changes=few, progress=False)
    one.train(64)
    steps = stored(one)
    chosen = steps[16:]
    is_legal = (chosen["action"].bool() & chosen["action_mask"]).any(-1)
    assert is_legal.all() and chosen["search", "mask"].all()
    assert bool((chosen["search", "policy"][~chosen["action_mask"]] == 0).all())
    found = play_match(tic_tac_toe(), one.behaviour.real_policy, PerfectPlay(tic_tac_toe(), seed=0), games=2)
    assert sum(found.total) == 2
