"""V-JEPA 2-AC as a world model: the authors' losses, poses in a dream, goals, what it refuses."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.golden_vectors import load
from tests.support.models import POSED, VJEPA2_AC_SIZES
from tests.support.parts import scramble
from wmcomponents.agents.planners import vjepa2_ac_cem
from wmcomponents.component import Component
from wmcomponents.dream import GoalReward, GoalTerm
from wmcomponents.functional import mean_absolute
from wmcomponents.functional.pose import pose_after
from wmcomponents.models import VJEPA2AC, VJEPA2ACConfig, VJEPA2ACLoss, VJEPA2ACNetworkConfig
from wmcomponents.models.joint_embedding.official_predictors import VJEPA2_AC_RULES
from wmcomponents.pretrained import BadModelError, load_mapped

ACTION = Bounded(-1, 1, (7,))


def made(action=ACTION, **changes) -> VJEPA2AC:
    torch.manual_seed(0)
    return scramble(VJEPA2AC(VJEPA2ACConfig.tiny(**{**VJEPA2_AC_SIZES, **changes}), POSED, action)).eval()


def sequences(rows=2, time=5, ends=()) -> TensorDict:
    torch.manual_seed(1)
    seen = POSED.expand(rows, time + 1).rand()
    done = torch.zeros(rows, time, 1, dtype=torch.bool)
    done[0, list(ends)] = True
    first = torch.cat([torch.zeros(rows, 1, 1, dtype=torch.bool), done[:, :-1]], 1)
    now = {**seen[:, :-1].to_dict(), "action": ACTION.expand(rows, time, 7).rand(), "is_init": first}
    rest = {"reward": torch.zeros(rows, time, 1), "terminated": done, "done": done}
    return TensorDict({**now, "next": {**seen[:, 1:].to_dict(), **rest}}, [rows, time])


class Recorded(Component):
    """Features that were recorded, by what the first pixel says."""

    def __init__(self, features):
        super().__init__(["pixels"], ["embed"])
        self.register_buffer("features", features)

    def compute(self, pixels):
        return self.features[pixels[..., 0, 0, 0].long()]


def test_its_losses_are_the_authors_with_their_gradient():
    info, tensors = load("vjepa2_ac_loss_auto2")
    features = tensors["in.h"].unflatten(1, (4, 16))
    rows, frames = features.shape[:2]
    network = VJEPA2ACNetworkConfig(frames=4, width=56, depth=2, heads=2)
    model = VJEPA2AC(
        VJEPA2ACConfig.tiny(network=network, horizon=3, rollout=info["config"]["auto_steps"]),
        POSED,
        Bounded(-3, 3, (7,)),
        encoder=Recorded(features.flatten(0, 1)),
    )
    weights = {key.removeprefix("w."): value for key, value in tensors.items() if key.startswith("w.")}
    load_mapped(model.predictor, weights, VJEPA2_AC_RULES)
    pixels = torch.arange(rows * frames, dtype=torch.uint8).view(rows, frames, 1, 1, 1).expand(-1, -1, 16, 16, 3)
    pose = torch.zeros(rows, frames, 7)
    pose[:, : tensors["in.states"].shape[1]] = tensors["in.states"]
    none = torch.zeros(rows, frames - 1, 1, dtype=torch.bool)
    data = TensorDict(
        {
            "camera": pixels[:, :-1],
            "pose": pose[:, :-1],
            "action": tensors["in.actions"][:, : frames - 1],
            "is_init": none,
            "next": {
                "camera": pixels[:, 1:],
                "pose": pose[:, 1:],
                "reward": torch.zeros(rows, frames - 1, 1),
                "terminated": none,
                "done": none,
            },
        },
        [rows, frames - 1],
    )
    loss = model.objective()
    out = loss(data)
    torch.testing.assert_close(out["loss_prediction"], tensors["out.loss_teacher"], **info["tolerance"])
    torch.testing.assert_close(out["loss_rollout"], tensors["out.loss_rollout"], **info["tolerance"])
    (out["loss_prediction"] + out["loss_rollout"]).backward()
    gradient = model.predictor.action_encoder.weight.grad
    torch.testing.assert_close(gradient, tensors["grad.action_encoder.weight"], **info["tolerance"])


def test_the_authors_checkpoint_is_read_encoder_and_predictor():
    encoder, predictor = (load(name)[1] for name in ("vjepa2_encoder_rope", "vjepa2_ac_predictor"))
    checkpoint = {
        "encoder": {f"module.backbone.{k.removeprefix('w.')}": v for k, v in encoder.items() if k.startswith("w.")},
        "predictor": {f"module.{k.removeprefix('w.')}": v for k, v in predictor.items() if k.startswith("w.")},
    }
    wide = {"predictor_embed.weight": (56, 56), "predictor_proj.weight": (56, 56), "predictor_proj.bias": (56,)}
    for name, shape in wide.items():  # the recorded predictor is of another encoder
        checkpoint["predictor"][f"module.{name}"] = torch.randn(shape)
    model = VJEPA2AC.from_official(checkpoint, heads=2, predictor_heads=2)
    assert model.config.encoder.dim == 56 and model.config.network.depth == 2
    assert torch.equal(model.predictor.pose_encoder.weight, predictor["w.state_encoder.weight"])
    assert torch.equal(model.encoder.backbone.patches.proj.weight, encoder["w.patch_embed.proj.weight"])
    del checkpoint["predictor"]["module.state_encoder.bias"]
    with pytest.raises(BadModelError, match="pose_encoder|state_encoder"):
        VJEPA2AC.from_official(checkpoint, heads=2, predictor_heads=2)


def test_a_dream_is_the_predictors_rollout_and_steps_move_the_pose():
    model, data = made(), sequences(time=4)
    state = model.initial_state([2])
    first = {key: data[key][:, 0] for key in ("camera", "pose")}
    state = model.observe(state, data["action"][:, 0], first, torch.ones(2, 1, dtype=torch.bool), None)
    features, pose = model.visual(first).unsqueeze(1), first["pose"].unsqueeze(1)
    for t in range(4):
        actions = data["action"][:, max(0, t - 2) : t + 1]
        state = model.imagine(state, data["action"][:, t], None).state
        found = model.predicted(features[:, -3:], actions, pose[:, -3:])[:, -1:]
        features = torch.cat([features, found], 1)
        pose = torch.cat([pose, pose_after(pose[:, -1], data["action"][:, t]).unsqueeze(1)], 1)
        torch.testing.assert_close(model.features(state), found.flatten(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.pose(state), pose[:, -1], rtol=1e-4, atol=1e-5)
    assert found.mean(-1).abs().max() < 1e-5  # through a layer norm, however long the dream


def test_actions_and_poses_keep_their_units_whatever_the_bounds():
    narrow, wide = made(), made(Bounded(-4, 4, (7,)))
    state = narrow.initial_state([2])
    action = torch.rand(2, 7)
    for model in (narrow, wide):
        model.prepare(sequences())
    one, other = (model.imagine(state, action, None).state for model in (narrow, wide))
    for key in ("window", "window_pose"):
        torch.testing.assert_close(one[key], other[key])


def test_each_frame_is_shown_alone_whatever_came_before():
    model, data = made(), sequences(time=3)
    seen = {key: data[key] for key in ("camera", "pose")}
    alone = torch.stack([model.visual({key: value[:, t] for key, value in seen.items()}) for t in range(3)], 1)
    torch.testing.assert_close(model.visual(seen), alone, rtol=1e-4, atol=1e-5)


def test_windows_that_hold_the_end_of_an_episode_are_left_out():
    model, data = made(), sequences(rows=2, time=4, ends=(0,))
    whole = VJEPA2ACLoss(model, model.config.loss)(data)
    kept = torch.stack([data[0, 2:], data[1, :2], data[1, 2:]])
    torch.testing.assert_close(whole["loss_prediction"], model.objective()(kept)["loss_prediction"])
    torch.testing.assert_close(whole["loss_rollout"], model.objective()(kept)["loss_rollout"])


def test_a_batch_is_learned_while_the_encoder_rests():
    model, data = made(), sequences()
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    loss = model.objective()
    optimizer, seen = loss.make_optimizer(lr=0.02, warmup=0), []
    for _ in range(12):
        optimizer.zero_grad()
        out = loss(data)
        total = out["loss_prediction"] + out["loss_rollout"]
        total.backward()
        optimizer.step()
        seen.append(float(total.detach()))
    assert seen[-1] < 0.9 * seen[0]
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())


def test_its_planner_moves_towards_a_goal_image():
    model, data = made(), sequences(rows=1, time=2)
    goal = {key: data["next", key][0, -1] for key in ("camera", "pose")}
    reward = GoalReward(model, terms=[GoalTerm(model.features, mean_absolute)]).toward(goal)
    planner = vjepa2_ac_cem(model, candidates=16, elites=4, budget=2, longest=0.5)
    first = {key: data[key][:, 0] for key in goal}
    flag = torch.ones(1, 1, dtype=torch.bool)
    state = model.observe(model.initial_state([1]), model.null_action([1]), first, flag, None)
    found = planner.plan(state, generator=torch.Generator().manual_seed(0), given={"goal": reward.goal})
    assert found.plan.best_value.item() >= -1e3 and (found.actions[..., 3:6] == 0).all()


def test_the_papers_sizes_are_built_without_memory():
    shown = Composite(camera=Bounded(0, 255, (256, 256, 3), dtype=torch.uint8), pose=Unbounded(7))
    with torch.device("meta"):
        model = VJEPA2AC(VJEPA2ACConfig.official(), shown, ACTION)
    predictor = sum(p.numel() for p in model.predictor.parameters())
    encoder = sum(p.numel() for p in model.encoder.parameters())
    assert 3.0e8 < predictor < 3.1e8 and 1.0e9 < encoder < 1.02e9
    assert model.state_spec["window"].shape == (8, 256, 1408)


@pytest.mark.parametrize(
    "shown,action",
    [
        (Composite(camera=POSED["camera"], place=Unbounded(3), turn=Unbounded(4)), ACTION),
        (POSED, Bounded(-1, 1, (6,))),
    ],
)
def test_other_observations_and_actions_are_refused(shown, action):
    with pytest.raises(ValueError, match="seven numbers"):
        VJEPA2AC(VJEPA2ACConfig.tiny(**VJEPA2_AC_SIZES), shown, action)


def test_an_image_alone_needs_no_pose_and_takes_any_action():
    shown = Composite(camera=POSED["camera"])
    model = scramble(VJEPA2AC(VJEPA2ACConfig.tiny(**VJEPA2_AC_SIZES), shown, OneHot(3))).eval()
    assert "window_pose" not in model.state_spec.keys()
    state = model.imagine(model.initial_state([2]), OneHot(3).expand(2, 3).rand(), None).state
    assert model.features(state).abs().sum() > 0
    with pytest.raises(ValueError, match="no pose"):
        model.predicted(state["window"], torch.zeros(2, 3, 3), torch.zeros(2, 3, 7))


def test_frames_of_another_size_or_order_are_refused():
    model, data = made(), sequences()
    for camera in (torch.zeros(2, 32, 32, 3, dtype=torch.uint8), torch.zeros(2, 3, 16, 16, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="sees 'camera'"):
            model.encode({"camera": camera, "pose": data["pose"][:, 0]})


def test_windows_that_the_predictor_cannot_read_are_refused():
    with pytest.raises(ValueError, match="rollout <= horizon <= frames"):
        made(horizon=4).objective()
