"""The losses of MuZero and EfficientZero: what is unrolled, weighted, masked, and how targets come about."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.small_muzero import SMALL, SPEC, efficientzero, muzero, sequences
from wmcomponents.data import collect, make_env, make_replay
from wmcomponents.functional.n_step import EpisodeTail, episode_tail
from wmcomponents.models import (
    EfficientZero,
    EfficientZeroConfig,
    MuZero,
    MuZeroConfig,
    MuZeroLoss,
    MuZeroLossConfig,
    MuZeroOptimizerConfig,
)
from wmcomponents.optim import ScheduledAdam, ScheduledSGD
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.training import Trainer

VECTOR = Composite(observation=Unbounded(4))
BOARD = Composite(board=Bounded(0, 1, (3, 3, 2), dtype=torch.bool))


def targets(loss, td):
    model, arrivals = loss.world_model, loss.arrivals(td)
    action = model.action_vector(arrivals.action)
    batch, length = action.shape[:2]
    tail = episode_tail(arrivals.is_init.squeeze(-1), arrivals.terminated.squeeze(-1), arrivals.real)
    starts = torch.arange(length).expand(batch, length)
    return loss.targets(arrivals, action, torch.full((batch, length), 100.0), tail, starts), tail


def test_targets_of_one_episode_that_ends():
    loss = muzero(continue_head=False).objective()
    found, _ = targets(loss, sequences(inits=[0], ends=[3], steps=4))
    # Rewards 1, 2, 3, 4 on arriving at steps 1..4; the last of them terminates.
    assert found.reward[0, 1].tolist() == [0, 2, 3, 4]
    assert found.reward[0, 3].tolist() == [0, 4, 0, 0]
    assert found.value[0, 1].tolist() == [2 + 1.5 + 25, 3 + 2, 4, 0]
    assert found.masks["reward"][0, 3].tolist() == [False, True, True, True]
    assert found.masks["value"][0, 3].all() and found.masks["policy"][0, 3].all()
    assert found.policy[0, 3, 1].tolist() == [0.5, 0.5]
    assert found.cont[0, 2].tolist()[1:3] == [1, 0]


def test_with_a_continue_head_nothing_is_asked_beyond_the_end():
    for model in (muzero(), efficientzero()):
        found, _ = targets(model.objective(), sequences(inits=[0], ends=[3], steps=4))
        assert found.masks["reward"][0, 3].tolist() == [False, True, False, False]
        assert found.masks["value"][0, 3].tolist() == [True, False, False, False]
        assert found.masks["policy"][0, 3].tolist() == [True, False, False, False]
        assert found.masks["continue"][0, 3].tolist() == [False, True, False, False]


def test_an_unroll_does_not_cross_into_the_next_episode_or_beyond_the_data():
    found, tail = targets(muzero().objective(), sequences(inits=[0, 2], ends=[], steps=5))
    assert found.masks["reward"][0, 0].tolist() == [False, True, True, False]
    assert tail.steps_remaining[0].tolist()[:3] == [2, 1, 0]
    assert found.masks["reward"][0, -2].tolist() == [False, True, False, False]
    assert not found.masks["value"][0, 1, 1]


def test_the_policy_s_target_is_the_action_that_was_taken():
    td = sequences(inits=[0], steps=4)
    found, _ = targets(muzero().objective(), td)
    assert torch.equal(found.policy[:, 0], td["action"])
    assert torch.equal(found.action[:, 0, 1:], td["action"][:, :3])


def test_a_search_s_policy_and_value_go_before():
    td = sequences(inits=[0], steps=4)
    td["search", "policy"] = torch.tensor([0.25, 0.75]).expand(2, 4, 2).clone()
    td["search", "value"] = torch.arange(7.0, 11.0).expand(2, 4).clone()
    loss = muzero().objective()
    found, _ = targets(loss, td)
    assert found.policy[0, 0].tolist() == [[0.25, 0.75]] * 4
    arrivals = loss.arrivals(td)
    value = loss.bootstrap_value(arrivals, torch.randn(2, 5, 1, 3))
    assert value[0, :4].tolist() == [7, 8, 9, 10]
    plain, with_search = loss(sequences(inits=[0], steps=4)), loss(td)
    assert plain["loss_policy"] != with_search["loss_policy"]
    assert plain["loss_value"] != with_search["loss_value"]


def test_a_search_that_found_exactly_nothing_is_a_search_too():
    """Values of 0 and actions of 0 are results as others are: only the last observation has none behind it."""
    td = sequences(inits=[0], steps=4)
    td["search", "policy"] = torch.tensor([0.5, 0.5]).expand(2, 4, 2).clone()
    td["search", "value"] = torch.zeros(2, 4, 1)
    loss = muzero().objective()
    arrivals = loss.arrivals(td)
    value = loss.bootstrap_value(arrivals, torch.randn(2, 5, 1, 3))
    assert value[:, :4].tolist() == [[0.0] * 4] * 2 and bool((value[:, 4] != 0).all())
    torch.manual_seed(0)
    model = MuZero(MuZeroConfig.tiny(**SMALL), SPEC, Bounded(-1, 1, (1,)))
    td["search", "policy"] = torch.zeros(2, 4, 1)
    td["action"] = torch.full((2, 4, 1), 0.7)
    found, _ = targets(model.objective(), td)
    assert found.policy[:, 0].eq(0.0).all() and found.masks["policy"][:, 0].all()


def test_what_was_not_searched_is_told_by_a_mask_and_not_by_what_it_holds():
    td = sequences(inits=[0], steps=4)
    td["search", "policy"] = torch.tensor([0.25, 0.75]).expand(2, 4, 2).clone()
    td["search", "value"] = torch.arange(7.0, 11.0).expand(2, 4).clone()
    td["search", "mask"] = torch.tensor([True, False, True, False]).expand(2, 4).clone()
    for name, hidden in (("policy", torch.nan), ("value", torch.inf)):
        td["search", name][:, 1::2] = hidden
    loss = muzero().objective()
    arrivals, stack = loss.arrivals(td), torch.randn(2, 5, 1, 3)
    plain = loss.bootstrap_value(loss.arrivals(sequences(inits=[0], steps=4)), stack)
    value = loss.bootstrap_value(arrivals, stack)
    assert value[0, 0:4:2].tolist() == [7, 9] and torch.equal(value[:, 1::2], plain[:, 1::2])
    found, _ = targets(loss, td)
    assert found.policy[0, 0, 2].tolist() == [0.25, 0.75]
    # Not "the action that was taken": that is no search's policy, and is left out.
    assert found.masks["policy"][0, 0].tolist() == [True, False, True, False]
    assert all(bool(value.isfinite().all()) for value in loss(td).values())


def test_a_transition_of_no_priority_is_no_padding():
    """It does not count itself, and the targets of those before it reach through it."""
    td = sequences(inits=[0], steps=4)
    weighted = td.clone().set("priority_weight", torch.tensor([1.0, 0.0, 1.0, 1.0]).expand(2, 4))
    loss = muzero().objective()
    (plain, tail), (found, same) = targets(loss, td), targets(loss, weighted)
    assert torch.equal(tail.steps_remaining, same.steps_remaining) and torch.equal(plain.value, found.value)
    assert loss.arrivals(weighted).weight[0].tolist() == [1, 0, 1, 1, 1] and loss.arrivals(weighted).real.all()


@pytest.mark.parametrize("build", [muzero, efficientzero])
@pytest.mark.parametrize("reward", [torch.nan, torch.inf])
def test_a_reward_that_is_no_number_makes_no_number_of_the_loss(build, reward):
    """It has no place among the bins, and is not taken for the largest."""
    td = sequences(inits=[0], steps=6)
    td["next", "reward"][0, 2] = reward
    out = build().objective()(td)
    assert out["loss_reward"].isnan() and out["loss_value"].isnan() and out["loss_policy"].isfinite()


def test_muzero_weighs_steps_by_the_game_s_length_and_efficientzero_by_k():
    tail = EpisodeTail(torch.tensor([[5, 1, 0, 1]]), torch.tensor([[True, True, True, False]]))
    weights = muzero().objective().step_weights(tail)
    assert weights[0, :, 0].tolist() == [1, 1, 1, 1]
    assert weights[0, :, 1].tolist() == pytest.approx([1 / 3, 1 / 2, 1, 1 / 3])
    assert efficientzero().objective().step_weights(tail).flatten().tolist() == pytest.approx([1 / 3] * 4)


def test_the_latent_s_gradient_is_shortened_at_every_step():
    norms = {}
    for factor in (1.0, 0.5):
        model = muzero(state_gradient=factor, scale="none")
        loss, td = model.objective(), sequences(inits=[0], steps=4)
        found, _ = targets(loss, td)
        arrivals = loss.arrivals(td)
        action, begun = model.action_vector(arrivals.action), model.initial_state((2,))
        stack, _ = model.stack_sequence(begun, action, arrivals.observation, arrivals.is_init)
        weights = torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(2, 5, 4)
        terms, _ = loss.terms(stack, found, torch.arange(5).expand(2, 5), weights)
        terms["value"].sum().backward()
        norms[factor] = model.representation.net[0].weight.grad.norm()
    torch.testing.assert_close(norms[0.5], norms[1.0] / 2**3)


@pytest.mark.parametrize("build", [muzero, efficientzero])
def test_every_part_is_trained(build):
    model = build()
    loss = model.objective()
    out = loss(sequences(inits=[0], ends=[4], batch=4, steps=8))
    assert set(out.keys()) == set(loss.out_keys)
    model.train()
    for _ in range(3):  # heads that begin at zero let nothing through at first
        optimizer = loss.make_optimizer(lr=1e-2, warmup=0)
        optimizer.zero_grad()
        sum(v for k, v in loss(sequences(inits=[0], ends=[4], batch=4, steps=8)).items() if "loss" in k).backward()
        optimizer.step()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A bias before batch normalisation has no gradient but rounding.
    assert not [name for name in still if "bias" not in name]


@pytest.mark.parametrize("build", [muzero, efficientzero])
def test_padding_may_hold_anything(build):
    model = build()
    td = sequences(inits=[0], ends=[2], steps=6)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[:, 3:] = False
    td["collector", "mask"] = mask
    other = td.clone()
    for key in ("observation", ("next", "observation"), ("next", "reward"), "action"):
        other[key][:, 3:] = torch.nan
    first, second = (model.objective()(data) for data in (td, other))
    for key in first.keys():
        assert second[key].isfinite() and torch.equal(first[key], second[key]), key


def test_the_target_network_follows_in_strides():
    model = muzero(target_interval=2)
    loss = model.objective()
    loss.before_update(0)

    def lag():
        own, target = loss.world_model_params, loss.target_world_model_params
        return float(
            (own["transition", "net", "0", "weight"] - target["transition", "net", "0", "weight"]).abs().sum().detach()
        )

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    loss.after_update(0)
    assert lag() > 0
    loss.after_update(1)
    assert lag() == 0


def test_a_target_network_does_not_move_by_itself_nor_touch_running_statistics():
    model = efficientzero()
    loss = model.objective()
    model.train()
    before = {name: value.clone() for name, value in loss.target_world_model_params.flatten_keys(".").items()}
    loss(sequences(inits=[0]))
    after = loss.target_world_model_params.flatten_keys(".")
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(part.training for part in model.modules())
    assert any(int(b) > 0 for name, b in model.named_buffers() if name.endswith("num_batches_tracked"))


@pytest.mark.parametrize("build", [muzero, efficientzero])
def test_a_run_that_was_stopped_between_two_copies_goes_on_as_if_it_had_not_been(build, tmp_path):
    env = make_env("CartPole-v1", seed=0)
    replay = make_replay(60, env, sequence_length=6, batch_size=2, seed=0, print_fn=None)
    collect(env, replay, 60, seed=0)

    def trainer(out):
        return Trainer(build(spec=VECTOR, target_interval=4, starts=1), replay, out=out, lr=1e-2, progress=False)

    whole, first = trainer(tmp_path / "whole"), trainer(tmp_path / "parts")
    whole.train(7)
    first.train(5)  # the copy after the fourth is two updates old, and not the network
    second = trainer(tmp_path / "parts")
    second.train(7)
    kept = [dict(run.objective.target_world_model_params.flatten_keys(".").items()) for run in (whole, second)]
    assert all(torch.equal(value, kept[1][name]) for name, value in kept[0].items())
    own = second.objective.world_model_params.flatten_keys(".")
    assert not all(torch.equal(value, own[name]) for name, value in kept[1].items())


def test_optimisers_are_the_papers():
    sgd = MuZero(MuZeroConfig.atari(past=0), SPEC, OneHot(2)).objective().make_optimizer()
    assert isinstance(sgd, ScheduledSGD) and sgd.param_groups[0]["lr"] == 0.05 and sgd.max_norm is None
    assert sgd.param_groups[0]["momentum"] == 0.9 and sgd.param_groups[0]["weight_decay"] == 1e-4
    assert sgd.schedule["decay_steps"] == 350_000 and not sgd.schedule["staircase"]
    zero = EfficientZero(EfficientZeroConfig.atari(frames=1, units=8), SPEC, OneHot(2)).objective().make_optimizer()
    assert isinstance(zero, ScheduledSGD) and zero.param_groups[0]["lr"] == 0.2 and zero.max_norm == 5.0
    assert zero.schedule == {"warmup": 1000, "decay_rate": 0.1, "decay_steps": 100_000, "staircase": True}
    assert isinstance(muzero().objective().make_optimizer(lr=1e-3, warmup=5), ScheduledAdam)


def test_two_players_who_move_in_turn_win_and_lose_the_same_game():
    """A board on which the second of every two moves wins: good for who makes it, bad for the other."""
    torch.manual_seed(0)
    config = MuZeroConfig.board_game(channels=8, blocks=1, reduced=2, reduced_heads=(16,), starts=0, unroll=2)
    model = MuZero(config, BOARD, OneHot(9))
    batch, steps = 8, 2
    board = torch.zeros(batch, steps + 1, 3, 3, 2, dtype=torch.bool)
    board[:, 1:, 0, 0, 0] = True
    board[:, 2:, 1, 1, 1] = True
    td = TensorDict({"board": board[:, :-1], "action": torch.eye(9)[[0, 4]].expand(batch, 2, 9)}, [batch, steps])
    td["is_init"] = torch.tensor([True, False]).view(1, 2, 1).expand(batch, 2, 1)
    last = ~td["is_init"]
    td["next"] = {"board": board[:, 1:], "reward": last.float(), "terminated": last, "done": last}
    loss = model.objective()
    optimizer = ScheduledAdam(loss.parameters(), lr=1e-2)
    model.train()
    for _ in range(150):
        optimizer.zero_grad()
        sum(v for k, v in loss(td).items() if k.startswith("loss_")).backward()
        optimizer.step()
    model.eval()
    once = torch.ones(1, 1, dtype=torch.bool)
    begun = model.initial_state((1,))
    start = model.observe(begun, model.null_action((1,)), {"board": board[:1, 0]}, once, None)
    middle, first_reward, cont = model.imagine(start, torch.eye(9)[[0]], None)
    end, second_reward, _ = model.imagine(middle, torch.eye(9)[[4]], None)
    assert [int(state["to_play"]) for state in (start, middle, end)] == [0, 1, 0]
    assert cont is None and "continue" not in model.capabilities
    values = [model.value(state).item() for state in (start, middle, end)]
    assert values == pytest.approx([-1.0, 1.0, 0.0], abs=0.25)
    assert [first_reward.item(), second_reward.item()] == pytest.approx([0.0, 1.0], abs=0.25)


def test_models_of_other_families_are_refused():
    with pytest.raises(
        TypeError, match="MuZeroLoss trains a ValueEquivalentModel; ToyWorldModel is no ValueEquivalentModel"
    ):
        MuZeroLoss(ToyWorldModel(SPEC, OneHot(2)))


@pytest.mark.parametrize("wrong", [{"unroll": 0}, {"td_steps": 0}, {"starts": -1}, {"target_interval": 0}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="starts at least 0; got"):
        MuZeroLoss(muzero(), MuZeroLossConfig(**wrong))
    with pytest.raises(ValueError, match="algorithm is 'sgd' or 'adam'; got 'lion'"):
        MuZeroLoss(muzero(), optimizer=MuZeroOptimizerConfig(algorithm="lion"))


def test_a_loss_without_a_config_has_the_papers_numbers():
    loss = MuZeroLoss(muzero())
    assert (loss.unroll, loss.td_steps, loss.discount, float(loss.value_scale)) == (5, 10, 0.997, 0.25)
    assert loss.make_optimizer().param_groups[0]["lr"] == 0.05


def test_a_config_of_one_level_is_read_into_todays_parts():
    """Where the optimiser's algorithm was called as the part is called now."""
    for kind in (MuZeroConfig, EfficientZeroConfig):
        regrouped = kind.regrouped({"units": 3, "unroll": 2, "optimizer": "adam", "lr": 0.5})
        assert regrouped == {
            "network": {"units": 3},
            "loss": {"unroll": 2},
            "optimizer": {"algorithm": "adam", "lr": 0.5},
        }
        assert kind.regrouped({"optimizer": {"algorithm": "sgd"}}) == {"optimizer": {"algorithm": "sgd"}}


IMAGE = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))


def image_loss(**changes):
    torch.manual_seed(0)
    small = {"channels": 4, "reduced": 2, "lstm": 8, "projection": 8, "bottleneck": 4, "frames": 2}
    return EfficientZero(EfficientZeroConfig.tiny(**{**SMALL, **small, **changes}), IMAGE, OneHot(2)).objective()


def test_augmented_stacks_are_moved_and_brightened_each_by_its_own_noise_and_alike_in_all_frames():
    loss = image_loss(shift=2, intensity=0.05)
    frame = torch.rand(64, 3, 16, 16) * 0.5 + 0.25
    moved = loss.augmented(torch.cat([frame, frame], 1))
    assert torch.equal(moved[:, :3], moved[:, 3:])
    pads = torch.nn.functional.pad(frame, (2, 2, 2, 2), mode="replicate")
    factors, places = set(), set()
    for source, result in zip(pads, moved[:, :3], strict=True):
        cuts = {(y, x): source[:, y : y + 16, x : x + 16] for y in range(5) for x in range(5)}
        ratios = {place: result / cut for place, cut in cuts.items()}
        place, ratio = min(ratios.items(), key=lambda item: float(item[1].std()))
        torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))
        places.add(place)
        factors.add(round(float(ratio.mean()), 6))
    assert len(places) > 10 and len(factors) > 32
    assert 0.9 - 1e-6 <= min(factors) < 0.97 and 1.03 < max(factors) <= 1.1 + 1e-6


def test_an_augmentation_of_nothing_leaves_the_stack():
    stack = torch.rand(2, 3, 6, 16, 16)
    assert torch.equal(image_loss(shift=0, intensity=0.0).augmented(stack), stack)


def test_images_are_augmented_in_training_unless_told_not_to_and_vectors_never():
    stack, starts = torch.rand(2, 4, 6, 16, 16), torch.zeros(2, 1, dtype=torch.long)
    plain, other = image_loss().eval(), image_loss(shift=2, intensity=0.05).eval()
    compared, begun = plain._encode(stack, starts)
    assert torch.equal(compared[:, :1], begun)
    compared, begun = other._encode(stack, starts)
    assert not torch.equal(compared[:, :1], begun) and begun.requires_grad and not compared.requires_grad
    official = EfficientZeroConfig.atari().loss
    assert (official.shift, official.intensity) == (4, 0.05)
    vectors = efficientzero(shift=4, intensity=0.05, starts=1).objective()
    assert bool(torch.isfinite(vectors(sequences())["loss_policy"]))


def test_agreement_is_the_distance_to_the_latents_that_are_met_in_units_of_their_variance():
    loss = muzero(agreement_scale=3.0, unroll=2, starts=0).objective()
    found, model = loss.elements(sequences(inits=[0], ends=[], steps=4)), loss.world_model
    assert "loss_agreement" in loss.out_keys and "loss_agreement" not in muzero().objective().out_keys
    arrivals = loss.arrivals(sequences(inits=[0], ends=[], steps=4))
    met = model.observe_sequence(
        model.initial_state((2,)), arrivals.action, arrivals.observation, arrivals.is_init, None
    )["latent"]
    state = {"latent": met[:, 0]}
    expected = 0.0
    for k in (1, 2):
        state = model.imagine(state, arrivals.action[:, k], None).state
        compared = met[:, (torch.arange(5) + k).clamp(max=4)].flatten(0, 1)
        distance = (state["latent"] - met[:, k]).square().mean(-1) / compared.var(0, correction=0).mean()
        expected += 3.0 * float(distance[0].detach()) / 2
    assert float(found.losses["agreement"][0, 0].detach()) == pytest.approx(expected, rel=1e-3)


def test_what_is_met_is_no_target_that_moves_towards_the_dream():
    model = muzero(agreement_scale=1.0, unroll=1, starts=0)
    loss = model.objective()
    td = sequences(inits=[0], ends=[], steps=2)
    last = td["next", "observation"][:, -1:]
    last.requires_grad_()  # met at the end of the only unroll from the step before, and no start of one
    td["next", "observation"] = torch.cat([td["next", "observation"][:, :-1], last], 1)
    losses = loss(td)
    (gradient,) = torch.autograd.grad(losses["loss_agreement"], last, allow_unused=True)
    assert gradient is None or not gradient.any()
