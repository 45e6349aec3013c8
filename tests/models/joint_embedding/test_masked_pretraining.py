"""Masked pretraining out of a replay buffer: what is read, what learns, what follows, and refusals."""

import pytest
import torch
from tensordict import TensorDict

from tests.support.parts import assert_rows_are_independent, scramble
from wmcomponents.data import DrawMasks, from_arrays
from wmcomponents.functional import BlockTubeMasks, MultiBlockMasks, RandomMasks
from wmcomponents.models import (
    IJEPA,
    MAE,
    VJEPA,
    IJEPALoss,
    IJEPAOptimizerConfig,
    MAELoss,
    MAEOptimizerConfig,
    VJEPALoss,
    VJEPAOptimizerConfig,
    ijepa_from_official,
    mae_from_official,
    vjepa_from_official,
)
from wmcomponents.models.joint_embedding.official_masked import (
    PREDICTOR_RULES,
    ROTARY_PREDICTOR_RULES,
    predictor_weights,
)
from wmcomponents.nn import NormalizePixels, ViTSize
from wmcomponents.pretrained import BadModelError, load_mapped

SIZE, SMALL = ViTSize(16, 1, 2, 32), ViTSize(16, 1, 2, 16)
SHORT, LONG = BlockTubeMasks((2, 4, 4), 2, (0.2, 0.2)), BlockTubeMasks((2, 4, 4), 1, (0.5, 0.5))
IMAGES = MultiBlockMasks((4, 4), 2, least=1)
FAMILIES = {
    "mae": (
        lambda: MAE.of_size(SIZE, (32, 32), patch=8, decoder=SMALL),
        lambda m: MAELoss(m, optimizer=MAEOptimizerConfig(lr=1e-2, warmup=0, steps=100)),
        RandomMasks((4, 4)),
    ),
    "ijepa": (
        lambda: IJEPA.of_size(SIZE, (32, 32), patch=8, predictor=SMALL),
        lambda m: IJEPALoss(m, optimizer=IJEPAOptimizerConfig(lr=1e-2, warmup=0, steps=100)),
        IMAGES,
    ),
    "vjepa": (
        lambda: VJEPA.first(SIZE, (4, 32, 32), patch=(2, 8, 8), predictor=SMALL),
        lambda m: VJEPALoss(m, optimizer=VJEPAOptimizerConfig(lr=1e-2, warmup=0, steps=100)),
        (SHORT, LONG),
    ),
    "vjepa2": (
        lambda: VJEPA.second(SIZE, (4, 32, 32), patch=(2, 8, 8), predictor=SMALL),
        lambda m: VJEPALoss(m, optimizer=VJEPAOptimizerConfig.second()),
        (SHORT, LONG),
    ),
}


def batch(masks, seed: int = 0) -> TensorDict:
    torch.manual_seed(seed)
    ramp = torch.linspace(0, 100, 32).view(32, 1, 1)  # what is hidden can be told from what is seen
    pixels = (torch.rand(3, 4, 1, 1, 3) * 155 + ramp).expand(3, 4, 32, 32, 3).to(torch.uint8)
    return DrawMasks(masks)(TensorDict({"pixels": pixels}, [3, 4]))


@pytest.mark.parametrize("build,objective,masks", FAMILIES.values(), ids=FAMILIES)
def test_gradient_reaches_every_weight_and_never_the_average(build, objective, masks):
    torch.manual_seed(0)
    loss = objective(scramble(build()))
    data = batch(masks)
    before = data.clone()
    out = loss(data)
    assert set(out.keys()) == set(loss.out_keys) and (data == before).all()
    assert all(value.ndim == 0 and value.isfinite() for value in out.values())
    sum(value for name, value in out.items() if name.startswith("loss_")).backward()
    for name, parameter in loss.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert not any("target" in name for name, _ in loss.named_parameters())


@pytest.mark.parametrize("build,objective,masks", FAMILIES.values(), ids=FAMILIES)
def test_a_batch_is_learned_by_the_papers_optimiser_and_the_average_follows(build, objective, masks):
    torch.manual_seed(0)
    loss = objective(build())
    optimizer, data, seen = loss.make_optimizer(lr=1e-2, warmup=0), batch(masks), []
    for step in range(12):
        loss.before_update(step)
        optimizer.zero_grad()
        out = loss(data)
        total = sum(value for name, value in out.items() if name.startswith("loss_"))
        total.backward()
        optimizer.step()
        target = loss.target_world_model_params
        before = None if target is None else target.clone().flatten_keys(".")
        loss.after_update(step)
        seen.append(float(total.detach()))
    assert seen[-1] < 0.9 * seen[0]
    if not isinstance(loss, MAELoss):
        key, share = "encoder.norm.bias", loss.average.share(11)
        old, own = before[key], loss.world_model_params.flatten_keys(".")[key]
        now = loss.target_world_model_params.flatten_keys(".")[key]
        torch.testing.assert_close(now, old + share * (own - old))
        assert not torch.equal(now, own)


def test_optimisers_spare_vectors_and_clip_parts_by_themselves():
    loss = VJEPALoss(FAMILIES["vjepa"][0]())
    optimizer = loss.make_optimizer()
    assert [group["clip"] for group in optimizer.param_groups] == ["encoder", "encoder", "predictor", "predictor"]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1.0, 0.0, 1.0, 0.0]
    counted = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(counted) == sorted(id(p) for p in loss.parameters())
    assert all(p.ndim > 1 for group in optimizer.param_groups[::2] for p in group["params"])
    assert optimizer.max_norm == 10.0 and optimizer.clip_after == 12_000


def test_masks_are_a_transform_of_a_replay_buffer():
    torch.manual_seed(0)
    frames, actions = torch.randint(256, (21, 32, 32, 3), dtype=torch.uint8), torch.zeros(20, 2)
    replay = from_arrays([frames], [actions], sequence_length=4, batch_size=3, seed=0, print_fn=None)
    replay.append_transform(DrawMasks([SHORT, LONG]))
    data = replay.sample()
    assert data.batch_size == (3, 4)
    for kind in "01":
        context = data["masks", kind, "context"]
        assert context.shape[:2] == (3, 4) and torch.equal(context[:, 0], context[:, 3])
    loss = FAMILIES["vjepa"][1](FAMILIES["vjepa"][0]())
    assert loss(data)["loss_prediction_0"].isfinite()


def test_what_is_not_seen_does_not_change_predictions():
    torch.manual_seed(0)
    model, masks = scramble(IJEPA.of_size(SIZE, (32, 32), patch=8, predictor=SMALL)), IMAGES.draw(3)
    x = torch.randn(3, 3, 32, 32)
    hidden = torch.ones(3, 16, dtype=torch.bool).scatter(1, masks.context, False).view(3, 1, 4, 4)
    other = torch.where(hidden.repeat_interleave(8, 2).repeat_interleave(8, 3), 7.0, x)
    assert torch.equal(model.predictions(x, masks), model.predictions(other, masks))
    predict = lambda x, c, t: model.predictions(x, type(masks)(c, t))  # noqa: E731
    assert_rows_are_independent(predict, x, *masks)
    # Sets are predicted each by itself.
    alone = model.predictions(x, masks._replace(target=masks.target[:, 1:]))
    torch.testing.assert_close(alone[:, 0], model.predictions(x, masks)[:, 1])


def test_the_class_tokens_decoder_gives_every_patch_at_its_place():
    torch.manual_seed(0)
    model = scramble(MAE.of_size(SIZE, (32, 32), patch=8, decoder=SMALL))
    x, context = torch.randn(2, 3, 32, 32), torch.tensor([[3, 9, 14], [0, 1, 2]])
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(model(x, context), model(x, context[:, order]), rtol=1e-4, atol=1e-5)
    assert model(x, context).shape == (2, 16, 192)


def test_an_encoder_leaves_with_its_weights():
    model = FAMILIES["vjepa"][0]()
    encoder = model.as_encoder(out_keys=["tokens"])
    out = encoder(batch([SHORT]).select("pixels").apply(lambda x: x[:, :4], batch_size=[3]))
    assert out["tokens"].shape == (3, 32, 16) and encoder.network is model.encoder


def test_data_without_masks_or_time_are_refused_with_a_remedy():
    build, objective, masks = FAMILIES["ijepa"]
    loss, data = objective(build()), batch(masks)
    with pytest.raises(KeyError, match="append DrawMasks"):
        loss(data.select("pixels"))
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        loss(data.reshape(-1))
    with pytest.raises(ValueError, match="sample sequences"):
        DrawMasks(masks)(data.reshape(-1))
    with pytest.raises(ValueError, match="at least one kind"):
        DrawMasks([])
    with pytest.raises(TypeError, match="IJEPALoss trains a MaskedJEPA"):
        IJEPALoss(FAMILIES["mae"][0]())
    loss.set_keys(masks="drawn")
    assert torch.isfinite(loss(data.rename_key_("masks", "drawn"))["loss_prediction"])


def official(net, names: dict[str, str], tokens: str) -> dict[str, torch.Tensor]:
    """A predictor's or decoder's weights by their official names."""
    out = {}
    for key, value in net.state_dict().items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        out[key] = value.unsqueeze(0) if key.endswith("pos_embed") else value
    for number, token in enumerate(out.pop("mask_tokens", [])):
        out[tokens.format(number)] = token.view(1, 1, -1)
    return out


PREDICTOR = {
    "embed.": "predictor_embed.",
    "table": "predictor_pos_embed",
    "blocks.": "predictor_blocks.",
    "out.": "predictor_proj.",
    "attention.": "attn.",
    "mlp.0": "mlp.fc1",
    "mlp.3": "mlp.fc2",
}


@pytest.mark.parametrize("family,rules", [("vjepa", PREDICTOR_RULES), ("vjepa2", ROTARY_PREDICTOR_RULES)])
def test_official_predictors_land_with_their_mask_tokens_in_order(family, rules):
    torch.manual_seed(0)
    model, other = (scramble(FAMILIES[family][0]()).predictor for _ in range(2))
    weights = official(model, PREDICTOR, "mask_tokens.{}")
    weights = {key if not key.startswith("norm") else f"predictor_{key}": value for key, value in weights.items()}
    if family == "vjepa2":
        weights["predictor_pos_embed"] = torch.zeros(1, 32, 16)
        assert len(model.mask_tokens) == 10
        with torch.no_grad():
            weights |= {f"mask_tokens.{i}": torch.full((1, 1, 16), float(i)) for i in range(11)}
        other.mask_tokens = torch.nn.Parameter(torch.zeros(11, 16))
    load_mapped(other, predictor_weights({f"module.backbone.{key}": value for key, value in weights.items()}), rules)
    if family == "vjepa2":
        assert other.mask_tokens[:, 0].tolist() == list(range(11))
    else:
        assert all(torch.equal(a, b) for a, b in zip(other.parameters(), model.parameters(), strict=True))
    with pytest.raises(BadModelError, match="no mask tokens"):
        predictor_weights({"predictor_embed.weight": torch.zeros(1)})


ENCODER = {
    "attention.": "attn.",
    "mlp.0": "mlp.fc1",
    "mlp.3": "mlp.fc2",
    "patches.": "patch_embed.",
    "positions.table": "pos_embed",
    "class_token": "cls_token",
}


@pytest.mark.parametrize("family,read", [("ijepa", ijepa_from_official), ("vjepa", vjepa_from_official)])
def test_a_published_model_comes_with_encoder_and_predictor(family, read):
    torch.manual_seed(0)
    model, clips = scramble(FAMILIES[family][0]()), {"frames": 4} if family == "vjepa" else {}
    predictor = official(model.predictor, PREDICTOR, "mask_tokens.{}" if clips else "mask_token")
    predictor = {f"predictor_{key}" if key.startswith("norm") else key: one for key, one in predictor.items()}
    checkpoint = {"encoder": official(model.encoder, ENCODER, ""), "predictor": predictor, "epoch": 3}
    other = read(checkpoint, heads=2, **clips)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), model.parameters(), strict=True))
    assert other.observation_spec == model.observation_spec
    with pytest.raises(BadModelError, match="3 heads do not divide"):
        read(checkpoint, heads=2, predictor_heads=3, **clips)


def test_maes_encoder_and_decoder_land_out_of_one_file():
    torch.manual_seed(0)
    model = scramble(FAMILIES["mae"][0]())
    names = {
        "embed.": "decoder_embed.",
        "positions.table": "decoder_pos_embed",
        "blocks.": "decoder_blocks.",
        "out.": "decoder_pred.",
        "attention.": "attn.",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
    }
    decoder = official(model.decoder, names, "")
    decoder = {f"decoder_{key}" if key.startswith("norm.") else key: value for key, value in decoder.items()}
    file = {**official(model.encoder, ENCODER, ""), **decoder}
    for token in ("cls_token", "mask_token"):
        file[token] = file[token].unsqueeze(0)
    other = mae_from_official({"model": file}, heads=2, decoder_heads=2)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), model.parameters(), strict=True))
    assert other.observation_spec == model.observation_spec and other.patch == 8
    with pytest.raises(BadModelError, match="3 heads do not divide"):
        mae_from_official(file, heads=2, decoder_heads=3)


def test_pixels_of_another_size_are_resized_where_asked_for():
    model = MAE.of_size(SIZE, (32, 32), patch=8, decoder=SMALL, pixels=NormalizePixels(size=(32, 32)))
    pixels = torch.randint(256, (2, 1, 40, 48, 3), dtype=torch.uint8)
    data = DrawMasks(RandomMasks((4, 4)))(TensorDict({"pixels": pixels}, [2, 1]))
    assert MAELoss(model, normalize=False)(data)["loss_reconstruction"].isfinite()
