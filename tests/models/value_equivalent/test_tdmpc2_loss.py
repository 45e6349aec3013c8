"""TDMPC2Loss as a TorchRL LossModule: windows, isolation, targets, hooks."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded

from wmcomponents.models import TDMPC2, DreamerV3, DreamerV3Config, TDMPC2Config, TDMPC2Loss, TDMPC2LossConfig

B, T, H = 3, 12, 4
SIZES = {"latent": 16, "encoder_units": 16, "units": 16, "bins": 21, "horizon": H}


def model(observation=None, action=None, **changes):
    torch.manual_seed(0)
    spec = Composite(observation=Unbounded(4)) if observation is None else observation
    made = TDMPC2(TDMPC2Config.tiny(**{**SIZES, **changes}), spec, Bounded(-2, 2, (2,)) if action is None else action)
    with torch.no_grad():  # these start at zero, where gradients to what they read are zero too
        for head in (made.reward_head, made.q, made.policy, made.target_q):
            head.out.weight.normal_(std=0.1)
    made.encoder.transform.fitted.fill_(True)
    return made


def batch(made, seed=0, rows=B, time=T, ends=0.15):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        done = torch.rand(rows, time, 1) < ends
        first = torch.cat([torch.zeros(rows, 1, 1, dtype=torch.bool), done[:, :-1]], 1)
        now, after = (made.observation_spec.rand((rows, time)) for _ in range(2))
        following = {"reward": torch.randn(rows, time, 1), "terminated": done & (torch.rand(rows, time, 1) < 0.5)}
        td = TensorDict(
            {**now, "action": made.action_spec.rand((rows, time)), "is_init": first}, batch_size=[rows, time]
        )
        td["next"] = TensorDict({**after, **following, "done": done}, batch_size=[rows, time])
    if "task" in td.keys():
        td["task"] = td["next", "task"] = td["task"][:, :1].expand(-1, time).clone()
    return td


def losses(objective, data, seed=0):
    objective.generator.manual_seed(seed)
    return objective(data)


def total(out):
    return sum(value for key, value in out.items() if key.startswith("loss_"))


KINDS = {
    "continuous": {},
    "choice": {"action": OneHot(3)},
    "index": {"action": Categorical(3)},
    "image": {"observation": Composite(pixels=Bounded(0, 255, (52, 52, 3), dtype=torch.uint8)), "latent": 32},
    "tasks": {
        "observation": Composite(observation=Unbounded(4), task=Categorical(2)),
        **{"task_size": 4, "action_sizes": (1, 2), "episode_lengths": (500, 100)},
    },
}


def of_kind(kind):
    changes = dict(KINDS[kind])
    if kind == "image":
        spec, action = changes.pop("observation"), Bounded(-2, 2, (2,))
        torch.manual_seed(0)
        made = TDMPC2(TDMPC2Config.tiny(**{**SIZES, **changes}), spec, action)
        for head in (made.reward_head, made.q, made.policy):
            nn.init.normal_(head.out.weight, std=0.1)
        return made
    return model(**changes)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_what_is_declared_and_only_losses_carry_gradients(kind):
    objective = of_kind(kind).objective()
    out = losses(objective, batch(objective.world_model))
    assert set(out.keys()) == set(objective.out_keys)
    for key, value in out.items():
        assert value.shape == () and value.isfinite() and value.requires_grad == key.startswith("loss_")


@pytest.mark.parametrize("kind", KINDS)
def test_the_sum_of_the_losses_reaches_every_trained_parameter_and_no_target(kind):
    made = of_kind(kind)
    total(losses(made.objective(), batch(made))).backward()
    for name, parameter in made.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        assert reached != name.startswith("target_q"), name


def test_the_policys_loss_touches_the_policy_alone_and_the_models_losses_all_but_it():
    made = model()
    objective, data = made.objective(), batch(made)
    losses(objective, data)["loss_policy"].backward()
    touched = {name.split(".")[0] for name, p in made.named_parameters() if p.grad is not None}
    assert touched == {"policy"}
    made.zero_grad(set_to_none=True)
    out = losses(objective, data)
    (total(out) - out["loss_policy"]).backward()
    touched = {name.split(".")[0] for name, p in made.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {"encoder", "dynamics", "reward_head", "termination_head", "q"}


def test_the_input_is_left_as_it_is_and_the_same_noise_gives_the_same_losses():
    made = model(dropout=0.3)
    objective, data = made.objective(), batch(made)
    before = data.clone()
    one, other, third = losses(objective, data), losses(objective, data), losses(objective, data, seed=1)
    assert (data == before).all()
    for key in one.keys():
        torch.testing.assert_close(one[key], other[key], rtol=0, atol=0)
    assert one["loss_value"] != third["loss_value"]


def test_sequences_are_cut_into_windows_and_the_rest_is_left():
    made = model()
    objective = made.objective()
    data = batch(made, time=11, ends=0.0)
    windows = objective.windows(data)
    assert windows.weight.shape == (B * 2, H)
    assert torch.equal(windows.action[1], data["action"][0, 4:8])
    assert windows.begins.tolist() == [[True, False, False, False]] * (2 * B)
    short = objective.windows(data[:, :3])
    assert short.weight.shape == (B, 3)


def test_the_latent_begins_anew_with_an_episode_and_is_rolled_out_within_one():
    made = model()
    objective = made.objective()
    data = batch(made, time=4, ends=0.0)
    data["next", "done"][0, 1] = data["is_init"][0, 2] = True
    windows = objective.windows(data)
    before, after, age = objective.roll_out(windows, made.vector_of(windows.action, None), None)
    assert age.tolist() == [[0, 1, 0, 1], [0, 1, 2, 3], [0, 1, 2, 3]]
    for row in range(2):
        state = None
        for t in range(4):
            seen = {"observation": data["observation"][row, t]}
            fresh = t == 0 or (row == 0 and t == 2)
            state = {"latent": made.encode(seen, None)} if fresh else state
            torch.testing.assert_close(before[row, t], state["latent"])
            state = made.imagine(state, data["action"][row, t], None).state
            torch.testing.assert_close(after[row, t], state["latent"])


def test_two_episodes_in_a_window_cost_what_they_cost_apart():
    made = model(rho=0.7)
    objective = made.objective()
    data = batch(made, rows=1, time=4, ends=0.0)
    data["next", "done"][0, 1] = data["is_init"][0, 2] = True
    together = objective.model_terms(objective.windows(data), objective.draw(1, 4))[0]
    halves = data.reshape(2, 2)
    apart = objective.model_terms(objective.windows(halves), objective.draw(2, 2))[0]
    for name in ("consistency", "reward", "termination"):
        torch.testing.assert_close(together[name].reshape(2, 2), apart[name])


def test_rewards_and_terminations_of_the_last_step_of_an_episode_are_learned():
    made = model()
    objective, data = made.objective(), batch(made, ends=0.0)
    data["next", "done"][:, 5] = data["next", "terminated"][:, 5] = data["is_init"][:, 6] = True
    base = losses(objective, data)
    data["next", "reward"][:, 5] += 5.0
    changed = losses(objective, data)
    assert changed["loss_reward"] != base["loss_reward"] and changed["loss_value"] != base["loss_value"]
    assert changed["loss_consistency"] == base["loss_consistency"]


def test_a_termination_ends_the_return_and_a_truncation_does_not():
    made = model(episode_lengths=(500,))
    objective, data = made.objective(), batch(made, ends=0.0)
    for flag, is_reward in (("terminated", True), ("done", False)):
        ended = data.clone()
        ended["next", flag][:] = True
        windows = objective.windows(ended)
        target = objective.model_terms(windows, objective.draw(*windows.weight.shape))[1]["value_target"]
        assert torch.equal(target, windows.reward.squeeze(-1)) == is_reward


def test_the_value_target_is_discounted_by_the_task():
    made = of_kind("tasks")
    objective, data = made.objective(), batch(made, ends=0.0)
    windows = objective.windows(data)
    draws = objective.draw(*windows.weight.shape)
    following = made.encode(windows.following, windows.observation["task"])
    target = objective.value_target(windows, following, windows.observation["task"], draws)
    ratio = (target - windows.reward).squeeze(-1)
    objective.discounts.fill_(1.0)
    plain = (objective.value_target(windows, following, windows.observation["task"], draws) - windows.reward).squeeze(
        -1
    )
    gammas = torch.tensor([0.99, 0.95])[windows.observation["task"]]
    torch.testing.assert_close(ratio, gammas * plain, rtol=1e-4, atol=1e-5)


def test_padding_may_hold_anything_and_costs_nothing():
    made = model()
    objective, data = made.objective(), batch(made, ends=0.0)
    mask = torch.ones(B, T, dtype=torch.bool)
    mask[0, 6:], mask[1] = False, False
    data["collector", "mask"] = mask
    clean = data.clone()
    for key in ("observation", ("next", "observation"), ("next", "reward"), "action"):
        data[key] = torch.where(mask[..., None], data[key], torch.full_like(data[key], float("nan")))
    one, other = losses(objective, clean), losses(objective, data)
    for key in one.keys():
        torch.testing.assert_close(one[key], other[key])
    total(other).backward()
    assert all(p.grad.isfinite().all() for p in made.parameters() if p.grad is not None)


def test_a_transition_counts_by_its_priority():
    made = model()
    objective, data = made.objective(), batch(made, ends=0.0)
    objective.reduction = "none"
    plain = losses(objective, data)["loss_reward"]
    data["priority_weight"] = torch.linspace(0, 1, B * T).reshape(B, T)
    weighted = losses(objective, data)["loss_reward"]
    torch.testing.assert_close(weighted, plain * data["priority_weight"].reshape(-1, H))


def test_a_reward_that_is_not_a_number_shows():
    made = model()
    data = batch(made)
    data["next", "reward"][0, 0] = float("nan")
    assert losses(made.objective(), data)["loss_reward"].isnan()


def test_targets_and_the_scale_move_when_the_loop_says_so():
    made = model()
    objective, data = made.objective(), batch(made)
    before = {name: p.clone() for name, p in made.named_parameters()}
    with torch.no_grad():
        made.q.out.weight.mul_(30.0)
    objective(data)
    assert objective.policy_scale == 1.0
    scale = objective(data)["policy_scale"]
    assert torch.equal(made.target_q.out.weight, before["target_q.out.weight"])
    objective.after_update(0)
    expected = torch.lerp(before["target_q.out.weight"], made.q.out.weight, 0.01)
    torch.testing.assert_close(made.target_q.out.weight, expected)
    # What is told is the mean of as many equal numbers.
    torch.testing.assert_close(objective.policy_scale, scale)
    assert objective.policy_scale > 1.0


def test_the_optimiser_is_the_papers():
    made = model(encoder_lr_scale=0.3)
    optimizer = made.objective().make_optimizer()
    found = {}
    for group in optimizer.param_groups:
        ids = {id(p) for p in group["params"]}
        for name, p in made.named_parameters():
            if id(p) in ids:
                found[name.split(".")[0]] = (group["lr"], group["eps"])
    rest = dict.fromkeys(("dynamics", "reward_head", "termination_head", "q"), (3e-4, 1e-8))
    assert found == {"encoder": (0.3 * 3e-4, 1e-8), "policy": (3e-4, 1e-5), **rest}
    assert optimizer.max_norm == 20.0


def test_images_are_moved_in_training_only():
    made = of_kind("image")
    objective = made.objective()
    seen = {"pixels": torch.randint(256, (20, 52, 52, 3), dtype=torch.uint8)}
    moved = objective._moved(seen)
    assert not torch.equal(moved["pixels"], seen["pixels"])
    state = made.observe({}, None, seen, None, None)
    assert torch.equal(state["latent"], made.encode(seen, None))


def test_long_embeddings_are_shortened_by_a_step():
    made = of_kind("tasks")
    with torch.no_grad():
        made.task_embedding.weight.mul_(1000.0)
    data = batch(made)
    made.objective()(data)
    used = data["task"].unique()
    torch.testing.assert_close(made.task_embedding.weight[used].norm(dim=-1), torch.ones(len(used)))


def test_other_models_other_counts_and_other_data_are_refused():
    with pytest.raises(TypeError, match="TDMPC2Loss trains a TDMPC2Model; DreamerV3 has no .*target_q"):
        TDMPC2Loss(DreamerV3(DreamerV3Config.tiny(), Composite(observation=Unbounded(4)), OneHot(2)))
    with pytest.raises(ValueError, match="one discount"):
        TDMPC2Loss(model(), TDMPC2LossConfig(episode_lengths=(100, 500)))
    with pytest.raises(ValueError, match="horizon"):
        TDMPC2Loss(model(), TDMPC2LossConfig(horizon=0))
    objective = model().objective()
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        objective(batch(objective.world_model).reshape(-1))
    with pytest.raises(KeyError, match="is_init"):
        objective(batch(objective.world_model).exclude("is_init"))


@pytest.mark.slow
def test_one_batch_can_be_learned_by_heart():
    made = model(units=32)
    objective, data = made.objective(), batch(made, rows=4)
    optimizer = objective.make_optimizer(3e-3)
    first = None
    for step in range(150):
        out = objective(data)
        first = out if first is None else first
        optimizer.zero_grad()
        total(out).backward()
        optimizer.step()
        objective.after_update(step)
    assert out["loss_reward"] < 0.5 * first["loss_reward"]
    assert out["loss_termination"] < 0.3 * first["loss_termination"]
