"""DINO-WM as a world model: its window, its loss, its encoder, what it refuses."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.data import Bounded, Composite, Unbounded

from tests.support.parts import scramble
from wmcomponents.dream import GoalReward, GoalTerm
from wmcomponents.encoders import FrozenEncoder, ViTEncoder, class_token
from wmcomponents.models import DINOWM, MAE, DINOWMConfig, DINOWMDecoderConfig, DINOWMLoss, FrozenEncoderConfig
from wmcomponents.models.joint_embedding.mae.model import MAEDecoder
from wmcomponents.models.loading import load
from wmcomponents.nn import NormalizePixels, ViTSize, dinov2_vit, ijepa_vit, mae_vit, timm_vit, vjepa2_vit, vjepa_vit
from wmcomponents.pretrained import BadModelError
from wmcomponents.testing import check_world_model

IMAGE = Bounded(0, 255, (16, 16, 3), dtype=torch.uint8)
SHOWN = Composite(camera=IMAGE, position=Unbounded(3))
ACTION = Bounded(-1, 1, (2,))
SMALL = {"network.depth": 1, "network.heads": 2, "head_dim": 4, "network.hidden": 16, "embedded": 2}
ENCODER = FrozenEncoderConfig("timm", 8, 1, 2, 16, (8, 8), positions=(16, 16), size=())
PROBE = DINOWMDecoderConfig(4, 1, 2)
SIZE = ViTSize(12, 1, 2, 24)


def config(**changes) -> DINOWMConfig:
    return DINOWMConfig.tiny(**{**SMALL, "encoder": ENCODER, **changes})


def made(shown=SHOWN, encoder=None, **changes) -> DINOWM:
    torch.manual_seed(0)
    model = DINOWM(config(**changes), shown, ACTION, encoder).eval()
    scramble(model.predictor)
    return model


def sequences(rows=2, time=7, ends=(), shown=SHOWN) -> TensorDict:
    torch.manual_seed(1)
    seen = shown.expand(rows, time + 1).rand()
    done = torch.zeros(rows, time, 1, dtype=torch.bool)
    done[0, list(ends)] = True
    first = torch.cat([torch.zeros(rows, 1, 1, dtype=torch.bool), done[:, :-1]], 1)
    now = {**seen[:, :-1].to_dict(), "action": ACTION.expand(rows, time, 2).rand(), "is_init": first}
    rest = {"reward": torch.zeros(rows, time, 1), "terminated": done, "done": done}
    return TensorDict({**now, "next": {**seen[:, 1:].to_dict(), **rest}}, [rows, time])


@pytest.mark.parametrize("shown,joining", [(SHOWN, "channels"), (Composite(pixels=IMAGE), "tokens")])
def test_it_follows_the_protocol(shown, joining):
    check_world_model(made(shown, joining=joining, decoder=PROBE, proprio_repeats=2))


@pytest.mark.parametrize("joining", ["channels", "tokens"])
def test_a_dream_is_the_predictors_own_rollout(joining):
    model, data = made(joining=joining), sequences(time=6)
    predictor = model.predictor
    seen = {key: data[key][:, :2] for key in ("camera", "position")}
    state = model.initial_state([2])
    for t in range(2):
        frame = {key: value[:, t] for key, value in seen.items()}
        state = model.observe(state, data["action"][:, max(0, t - 1)], frame, torch.full((2, 1), t == 0), None)
    assert state["filled"].tolist() == [[2], [2]]
    visual, proprio = model.look(seen)
    rolled = predictor.rollout(visual, proprio, data["action"][:, :5])
    for t in range(1, 5):
        state = model.imagine(state, data["action"][:, t], None).state
        parts = predictor.joining.part(rolled[:, t + 1])
        torch.testing.assert_close(model.features(state), parts.visual.flatten(1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.proprio(state), parts.proprio, rtol=1e-4, atol=1e-5)
        assert int(state["filled"][0]) == min(3, t + 2)


def test_a_sequence_is_filtered_as_step_by_step():
    model, data = made(), sequences(time=5, ends=(2,))
    seen, state = {key: data[key] for key in ("camera", "position")}, model.initial_state([2])
    whole = model.observe_sequence(state, data["action"], seen, data["is_init"], None)
    last = model.observe_last(state, data["action"], seen, data["is_init"], None)
    for t in range(5):
        frame = {key: value[:, t] for key, value in seen.items()}
        state = model.observe(state, data["action"][:, t], frame, data["is_init"][:, t], None)
        for key, value in state.items():
            torch.testing.assert_close(whole[key][:, t], value)
    assert state["filled"].tolist() == [[2], [3]]
    for key, value in state.items():
        torch.testing.assert_close(last[key], value)


def test_the_loss_is_that_of_whole_windows_teacher_forced():
    model, data = made(), sequences(time=7, ends=(1,))
    loss = DINOWMLoss(model)
    out = loss(data)
    losses = []
    for row, start in ((0, 3), (1, 0), (1, 3)):  # the first window of row 0 holds the end of an episode
        window = data[row, start : start + 3]
        frames = {key: torch.cat([window[key], window["next", key][-1:]]) for key in ("camera", "position")}
        visual, proprio = model.look(frames)
        tokens = model.predictor.tokens(visual[:3], proprio[:3], window["action"])
        found = model.predictor.transformer(tokens)
        embedded = model.predictor.proprio_encoder(proprio[1:])
        target = torch.cat([visual[1:], embedded[:, None].expand(-1, 4, -1)], -1)
        losses.append((found[..., :10] - target).square().mean())
    torch.testing.assert_close(out["loss_prediction"], torch.stack(losses).mean())
    whole = (8 * out["visual_error"] + 2 * out["proprio_error"]) / 10
    torch.testing.assert_close(whole, out["loss_prediction"].detach())
    out["loss_prediction"].backward()
    reached = {name for name, p in loss.named_parameters() if p.grad is not None}
    assert reached == {name for name, _ in loss.named_parameters() if "predictor" in name}


def test_the_decoder_learns_from_real_frames_and_teaches_the_rest_nothing():
    model, data = made(decoder=PROBE), sequences()
    loss = model.objective()
    out = loss(data)
    assert set(out.keys()) == set(loss.out_keys)
    out["loss_reconstruction"].backward()
    reached = {name.split(".")[1] for name, p in loss.named_parameters() if p.grad is not None}
    assert reached == {"decoder", "proprio_decoder"}
    with torch.no_grad():  # of whatever is predicted, so that no prediction is looked at
        model.predictor.transformer.norm.weight.zero_()
    torch.testing.assert_close(loss(data)["loss_reconstruction"], out["loss_reconstruction"])
    rates = {group["lr"]: len(group["params"]) for group in loss.make_optimizer().param_groups}
    assert rates == {5e-4: len([*model.predictor.parameters()]), 3e-4: len([*model.decoder.parameters()]) + 2}


def test_what_is_decoded_is_what_the_probes_learned_to_show():
    model, data = made(decoder=PROBE), sequences()
    model.prepare(data)
    weight, bias = model.predictor.proprio_encoder.weight, model.predictor.proprio_encoder.bias
    with torch.no_grad():  # the probe inverts the map, as far as two numbers of three go
        inverse = torch.linalg.pinv(weight)
        model.proprio_decoder.weight.copy_(inverse), model.proprio_decoder.bias.copy_(-inverse @ bias)
    seen = {key: data[key][:, 0] for key in ("camera", "position")}
    state = model.observe(model.initial_state([2]), data["action"][:, 0], seen, torch.ones(2, 1).bool(), None)
    told = model.decode(state)
    torch.testing.assert_close(
        model.predictor.proprio_encoder(model.proprio_scale(told["position"])),
        model.predictor.proprio_encoder(model.proprio_scale(seen["position"])),
    )
    image = (model.shown(model.look(seen)[0]) / 2 + 0.5).clamp(0, 1) * 255
    assert torch.equal(told["camera"], image.round().to(torch.uint8)) and "decode" not in made().capabilities


def test_a_batch_is_learned_while_the_encoder_rests():
    model, data = made(), sequences()
    model.prepare(data)
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    loss = model.objective()
    optimizer, seen = loss.make_optimizer(lr=0.1), []
    for _ in range(20):
        optimizer.zero_grad()
        total = loss(data)["loss_prediction"]
        total.backward()
        optimizer.step()
        seen.append(float(total.detach()))
    assert seen[-1] < 0.7 * seen[0]
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())


def test_goals_weigh_proprioception_beside_features():
    model, data = made(), sequences(rows=3)
    goal = {key: data[key][0, 4] for key in ("camera", "position")}
    reward = GoalReward(model, goal, terms=[GoalTerm(model.features), GoalTerm(model.proprio, weight=0.5)])
    flag = torch.ones(3, 1, dtype=torch.bool)
    state = model.observe(
        model.initial_state([3]), model.null_action([3]), {k: data[k][:, 4] for k in goal}, flag, None
    )
    paid = reward(state, model.null_action([3]), state)
    assert paid[0].abs() < 1e-6 and (paid[1:] < -1e-3).all()


NETWORKS = {
    "timm": lambda: timm_vit(SIZE, (16, 16), 8),
    "dinov2": lambda: dinov2_vit(SIZE, (24, 24), 8, registers=2),
    "mae": lambda: mae_vit(SIZE, (16, 16), 8),
    "ijepa": lambda: ijepa_vit(SIZE, (16, 16), 8),
    "vjepa": lambda: vjepa_vit(SIZE, (4, 16, 16), (2, 8, 8)),
    "vjepa2": lambda: vjepa2_vit(SIZE, (2, 8, 8)),
}


@pytest.mark.parametrize("layout", NETWORKS)
def test_a_vision_transformer_of_any_layout_is_frozen_in_the_model_and_saved_with_it(layout, tmp_path):
    network, frames = scramble(NETWORKS[layout]()), sequences(rows=1, time=2)["camera"]
    encoder = ViTEncoder(network, pixels=NormalizePixels((0.4, 0.5, 0.6), (0.2, 0.2, 0.3)))
    model = made(encoder=encoder)
    assert model.config.encoder.layout == layout and not any(p.requires_grad for p in model.encoder.parameters())
    clips = frames.unsqueeze(-4).expand(1, 2, 2, 16, 16, 3) if layout.startswith("vjepa") else frames
    with torch.no_grad():
        wanted = encoder.compute(clips)
        for parameter in network.parameters():  # what becomes of the user's own is nothing to the model
            parameter.zero_()
        loaded = load(model.save_pretrained(tmp_path / "model"))
        torch.testing.assert_close(loaded.encoder.compute(frames), wanted)


def test_a_masked_models_encoder_is_taken_over():
    masked = MAE(mae_vit(SIZE, (16, 16), 8), MAEDecoder(12, ViTSize(8, 1, 2, 8), (2, 2), 192), (16, 16))
    frames = sequences()["camera"]
    for encoder in (masked, masked.as_frozen_encoder(layer_norm=True)):
        model = made(encoder=encoder)
        assert model.config.encoder.layout == "mae" and "encoder.backbone.norm.weight" in model.state_dict()
        with torch.no_grad():
            wanted = masked.as_frozen_encoder(layer_norm=encoder is not masked).compute(frames)
            torch.testing.assert_close(model.encoder.compute(frames), wanted)
    asked = FrozenEncoder(masked.encoder, patches=lambda net, images: net(images)[:, 2:])  # in a way of one's own
    assert made(encoder=asked).config.encoder.is_given


def test_a_users_backbone_is_not_in_the_folder_and_is_given_again(tmp_path):
    torch.manual_seed(3)
    backbone = nn.Conv2d(3, 8, 8, 8)
    model = made(encoder=FrozenEncoder(backbone))
    path, data = model.save_pretrained(tmp_path / "model"), sequences()
    assert not any("encoder.module" in name for name in model.state_dict())
    with pytest.raises(BadModelError, match=r"give it again, as encoder=, one that makes 4 patches of 8 numbers"):
        load(path)
    with pytest.raises(BadModelError, match="another encoder than the one on which the model was trained"):
        load(path, encoder=FrozenEncoder(nn.Conv2d(3, 8, 8, 8)))
    with pytest.raises(BadModelError, match="another encoder"):
        load(path, encoder=FrozenEncoder(backbone, pixels=NormalizePixels((0.5,) * 3, (0.5,) * 3)))
    weight = backbone.weight.clone()
    loaded = load(path, encoder=FrozenEncoder(backbone))
    assert torch.equal(backbone.weight, weight) and loaded.encoder.module.backbone is backbone
    state, action = model.initial_state([2]), model.null_action([2])
    first, now = torch.ones(2, 1).bool(), {key: data[key][:, 0] for key in ("camera", "position")}
    for key, value in model.observe(state, action, now, first, None).items():
        torch.testing.assert_close(loaded.observe(state, action, now, first, None)[key], value)
    made().save_pretrained(tmp_path / "own")
    with pytest.raises(TypeError, match="takes no head"):
        load(tmp_path / "own", head=nn.Linear(1, 1))


def test_backbones_that_give_no_patches_are_refused():
    with pytest.raises(TypeError, match=r"no features of patches .* patches="):
        made(encoder=FrozenEncoder(nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.Flatten())))
    with pytest.raises(ValueError, match="read=patch_tokens"):
        made(encoder=ViTEncoder(mae_vit(SIZE, (16, 16), 8), read=class_token))
    with pytest.raises(TypeError, match=r"wrap it, FrozenEncoder\(backbone"):
        made(encoder=nn.Conv2d(3, 8, 8, 8))
    with pytest.raises(ValueError, match="do not fill"):
        made(encoder=mae_vit(SIZE, (15, 15), 5))


def test_observations_and_sizes_that_do_not_fit_are_refused():
    for shown in (Composite(position=Unbounded(3)), Composite(left=IMAGE, right=IMAGE.clone())):
        with pytest.raises(ValueError, match="one uint8 image, and numbers beside it"):
            made(shown)
    with pytest.raises(ValueError, match="one of 'channels', 'tokens'"):
        made(joining="sum")


@pytest.mark.parametrize(
    "camera",
    [
        torch.zeros(2, 32, 32, 3, dtype=torch.uint8),
        torch.zeros(2, 3, 16, 16, dtype=torch.uint8),
        torch.rand(2, 16, 16, 3),
    ],
    ids=["another size", "channels first", "from 0 to 1"],
)
def test_frames_of_another_kind_are_refused(camera):
    model = made()
    state, shown = model.initial_state([2]), {"camera": camera, "position": torch.zeros(2, 3)}
    with pytest.raises(ValueError, match=r"sees 'camera' as .* torch.uint8 \[..., 16, 16, 3\]; got"):
        model.observe(state, model.null_action([2]), shown, torch.ones(2, 1).bool(), None)
    with pytest.raises(ValueError, match="a goal's 'camera' is"):
        GoalReward(model, shown)


def test_the_papers_sizes_are_the_default():
    shown = Composite(pixels=Bounded(0, 255, (224, 224, 3), dtype=torch.uint8), proprio=Unbounded(4))
    action = Bounded(-1, 1, (10,))
    with torch.device("meta"):
        model = DINOWM("official", shown, action)
    assert tuple(model.state_spec["window"].shape) == (3, 196, 394)
    assert tuple(model.predictor.transformer.positions.shape) == (588, 404)
    assert model.decoder.grid == (14, 14)
