"""The losses of IRIS: stages, what counts, who learns."""

import pytest
import torch
from torch import nn
from torchrl.data import OneHot

from tests.support.models import CHANGES, SMALL, WORDS
from tests.support.stages import at, data, parts_reached
from wmcomponents.models import (
    IRIS,
    DeltaIRIS,
    DeltaIRISConfig,
    DreamerV3,
    DreamerV3Config,
    IRISConfig,
    IRISLoss,
    IRISLossConfig,
)
from wmcomponents.nn import FSQ, LPIPS


@pytest.fixture
def model():
    torch.manual_seed(0)
    return IRIS(IRISConfig.tiny(**WORDS, tokenizer_steps=2, tokenizer_frames=0), SMALL, OneHot(3))


def test_the_stage_follows_from_the_step_alone(model):
    objective = IRISLoss(model, IRISLossConfig(tokenizer_steps=3, tokenizer_every=3))
    stages = [objective.stage_at(step) for step in range(10)]
    assert [stage == "tokenizer" for stage in stages] == [True] * 3 + [False, False, True] * 2 + [False]
    never = IRISLoss(model, IRISLossConfig(tokenizer_steps=1, tokenizer_every=0))
    assert {never.stage_at(step) for step in range(1, 50)} == {"transformer"}
    never.before_update(0)
    assert never.stage == "tokenizer" and "loss_commitment" in never.out_keys
    never.before_update(1)
    assert never.stage == "transformer" and "loss_tokens" in never.out_keys


def test_each_stage_trains_its_part_alone(model):
    objective = model.objective()
    assert parts_reached(at(objective, "tokenizer"), data()) == {"tokenizer"}
    assert parts_reached(at(objective, "transformer"), data()) == {"dynamics"}


def test_what_is_written_is_what_is_declared(model):
    for objective in (
        model.objective(),
        IRISLoss(
            model, IRISLossConfig(tokenizer_steps=1, worst=0.01), perceptual=lambda x, y: (x - y).abs().mean((1, 2, 3))
        ),
    ):
        for stage in ("tokenizer", "transformer"):
            out = at(objective, stage)(data())
            assert set(out.keys()) == set(objective.out_keys)
            assert all(value.isfinite() for value in out.values())


def test_frames_are_scored_one_by_one_in_the_range_of_the_network(model):
    objective = at(
        IRISLoss(model, IRISLossConfig(tokenizer_steps=1, absolute=0.1, squared=1.0, worst=0.5)), "tokenizer"
    )
    batch = data()
    out = objective(batch)
    frames = torch.cat([batch["pixels"], batch["next", "pixels"][:, -1:]], 1).flatten(0, 1)
    x = frames.permute(0, 3, 1, 2) / 127.5 - 1
    z = model.tokenizer.encode(x)
    code = model.tokenizer.quantizer.lookup(model.tokenizer.quantizer.tokens(z))
    error = model.tokenizer.decode(code) - x
    torch.testing.assert_close(out["loss_absolute"], 0.1 * error.abs().mean())
    torch.testing.assert_close(out["loss_squared"], error.square().mean())
    torch.testing.assert_close(out["loss_worst"], 0.5 * error.square().amax((1, 2, 3)).mean())
    torch.testing.assert_close(out["loss_commitment"], 2 * (code - z).square().mean())
    assert 1 <= out["perplexity"] <= 16


def test_codes_without_use_are_given_to_what_lies_far_from_all_others(model):
    quantizer = model.tokenizer.quantizer
    with torch.no_grad():
        quantizer.embedding.weight[1:] = 100.0  # nothing is ever near these
    objective = at(IRISLoss(model, IRISLossConfig(tokenizer_steps=40, revival=25)), "tokenizer")
    batch = data(rows=4)
    before = quantizer.embedding.weight.detach().clone()

    def after(step):
        objective(batch)
        objective.after_update(step)
        return quantizer.embedding.weight.detach()

    assert torch.equal(after(5), before)  # not every update
    assert torch.equal(after(30), before)  # not for ever
    revived = after(20).clone()
    assert torch.equal(revived[0], before[0]) and (revived[1:].abs() < 50).all()
    assert len(model.tokenizer.tokens(batch["pixels"]).unique()) > 1
    objective.after_update(20)  # without an update before it there is nothing to look at
    assert torch.equal(quantizer.embedding.weight, revived)


def test_some_frames_are_drawn_and_padding_never_is(model):
    objective = at(
        IRISLoss(model, IRISLossConfig(tokenizer_steps=1, tokenizer_frames=3), reduction="none"), "tokenizer"
    )
    batch = data(rows=2, steps=4)
    batch["collector", "mask"] = torch.zeros(2, 4, dtype=torch.bool)
    batch["collector", "mask"][0, :2] = True
    batch["pixels"][1] = 255
    assert objective(batch)["loss_absolute"].shape == (3, 1)
    for _ in range(20):
        pixels, weight = objective._frames(batch)
        assert (weight > 0).all() and not (pixels == 255).flatten(1).all(1).any()
    drawn = {int(objective._frames(data(seed=1))[0].long().sum()) for _ in range(10)}
    assert len(drawn) > 1


def test_the_perceptual_distance_is_added_and_its_network_is_not_trained(model):
    body = nn.Conv2d(3, 4, 3)
    objective = IRISLoss(model, IRISLossConfig(tokenizer_steps=1), perceptual=LPIPS(lambda x: [body(x)], (4,)))
    assert objective(data())["loss_perceptual"] > 0
    held = IRISLoss(model, IRISLossConfig(tokenizer_steps=1), perceptual=LPIPS(nn.Sequential(nn.Conv2d(3, 4, 3)), (4,)))
    trained = {id(p) for group in held.make_optimizer().param_groups for p in group["params"]}
    assert not trained & {id(p) for p in held.perceptual.parameters()}
    assert not any(p.requires_grad for p in held.perceptual.parameters())


def loss_by_hand(model, batch, until):
    """Mean cross entropies over the first ``until`` steps of each row, token by token."""
    words, part = [], model.dynamics
    ends, pays = [], []
    for row in range(batch.shape[0]):
        tokens = model.tokenizer.tokens(batch["pixels"][row])
        action = batch["action"][row].argmax(-1, keepdim=True)
        sequence = torch.cat([tokens, action], 1)[: until[row]].flatten()
        said = part.read(sequence.unsqueeze(0))
        meant = tokens[: until[row]].flatten()[1:]
        words.append(nn.functional.cross_entropy(said.tokens[0, :-1], meant, reduction="none"))
        sign = batch["next", "reward"][row, : until[row], 0].sign().long() + 1
        pays.append(nn.functional.cross_entropy(said.reward[0], sign, reduction="none"))
        dead = batch["next", "terminated"][row, : until[row], 0].long()
        ends.append(nn.functional.cross_entropy(said.terminated[0], dead, reduction="none"))
    return [torch.cat(one).mean() for one in (words, pays, ends)]


@pytest.mark.parametrize("cut", ["terminated", "truncated", "is_init", "mask"])
def test_a_piece_counts_up_to_its_first_end(model, cut):
    model.eval()
    objective, batch = at(model.objective(), "transformer"), data()
    if cut in ("terminated", "truncated"):
        batch["next", "done"][1, 1] = True
        batch["next", "terminated"][1, 1] = cut == "terminated"
    elif cut == "is_init":
        batch["is_init"][1, 2] = True
    else:
        batch["collector", "mask"] = torch.tensor([[True, True, True], [True, True, False]])
        batch["next", "reward"][1, 2] = torch.nan
    out = objective(batch)
    expected = loss_by_hand(model, batch, (3, 2))
    for name, value in zip(("tokens", "reward", "termination"), expected, strict=True):
        torch.testing.assert_close(out[f"loss_{name}"], value)


def test_what_lies_behind_an_end_changes_nothing(model):
    model.eval()
    objective, batch = at(model.objective(), "transformer"), data()
    batch["next", "done"][0, 0] = batch["next", "terminated"][0, 0] = True
    other = batch.clone()
    other["pixels"][0, 1:] = 7
    other["next", "reward"][0, 1:] = 5.0
    for key, value in objective(batch).items():
        torch.testing.assert_close(objective(other)[key], value)


def test_long_sequences_are_cut_to_the_context_and_the_next_piece_counts_again(model):
    model.eval()
    objective, batch = at(model.objective(), "transformer"), data(rows=1, steps=7)
    batch["next", "done"][0, 1] = True
    segments = objective.segments(batch)
    assert torch.equal(segments.tokens.flatten(0, 1)[:7], model.tokenizer.tokens(batch["pixels"][0]))
    assert segments.weight.tolist() == [[1, 1, 0], [1, 1, 1], [1, 0, 0]]


def test_priorities_weigh_steps(model):
    model.eval()
    objective, batch = at(model.objective(), "transformer"), data(rows=2)
    alone = objective(batch[:1])
    batch["priority_weight"] = torch.tensor([[1.0] * 3, [1e-6] * 3])
    for key, value in objective(batch).items():
        torch.testing.assert_close(value, alone[key], rtol=1e-3, atol=1e-4)


def test_a_step_of_no_priority_is_no_padding(model):
    """What follows it in its piece counts; behind a padded one nothing does."""
    objective, batch = at(model.objective(), "transformer"), data(rows=2)
    batch["priority_weight"] = torch.tensor([[1.0, 0.0, 1.0]] * 2)
    assert objective.segments(batch).weight.tolist() == [[1, 0, 1]] * 2
    batch["collector", "mask"] = torch.tensor([[True, True, True], [True, False, True]])
    assert objective.segments(batch).weight.tolist() == [[1, 0, 1], [1, 0, 0]]


def test_only_linear_maps_of_the_transformer_decay_and_norms_are_clipped_apart(model):
    objective = model.objective()
    optimizer = objective.make_optimizer()
    names = {id(p): name for name, p in objective.world_model_params.flatten_keys(".").items()}
    decaying = {names[id(p)] for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert {name.rsplit(".", 1)[1] for name in decaying} == {"weight"}
    assert not any("embedding" in name or "norm" in name or "positions" in name for name in decaying)
    assert len(decaying) == 2 * 4 + 3 * 2 and all(name.startswith("dynamics.") for name in decaying)
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.0, 0.01}
    assert {g["max_norm"] for g in optimizer.param_groups} == {10.0}
    assert [g["clip"] for g in optimizer.param_groups] == ["tokenizer", "transformer", "transformer"]
    every = [id(p) for g in optimizer.param_groups for p in g["params"]]
    assert len(every) == len(set(every)) == sum(p.requires_grad for p in model.parameters())


def test_who_is_not_in_turn_stands_still(model):
    objective = model.objective()
    optimizer, before = objective.make_optimizer(), {k: v.clone() for k, v in model.state_dict().items()}
    for step in range(3):
        objective.before_update(step)
        optimizer.zero_grad()
        sum(v for k, v in objective(data(seed=step)).items() if k.startswith("loss_")).backward()
        optimizer.step()
        moved = {
            key.split(".")[0]
            for key, value in objective.world_model_params.flatten_keys(".").items()
            if key in before and not torch.equal(value, before[key])
        }
        assert moved == ({"tokenizer"} if step < 2 else {"tokenizer", "dynamics"})


def test_what_cannot_be_is_refused(model):
    with pytest.raises(ValueError, match="leaves the transformer its turns"):
        IRISLoss(model, IRISLossConfig(tokenizer_steps=1, tokenizer_every=1))
    with pytest.raises(ValueError, match="the stages are"):
        model.objective().stage = "policy"
    with pytest.raises(
        TypeError, match="IRISLoss trains a CachedTransformerModel; DreamerV3 is no .* its own objective"
    ):
        IRISLoss(DreamerV3(DreamerV3Config.tiny(mults=(1, 2)), SMALL, OneHot(3)))
    with pytest.raises(
        TypeError, match="over a TokenTransformer; that of DeltaIRIS is a DeltaTransformer: use the loss"
    ):
        IRISLoss(DeltaIRIS(DeltaIRISConfig.tiny(**CHANGES), SMALL, OneHot(3)))
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        at(model.objective(), "transformer")(data()[0])
    with pytest.raises(KeyError, match="sequences lack"):
        at(model.objective(), "transformer")(data().exclude("action"))


def test_only_codes_of_a_codebook_are_revived(model):
    model.tokenizer.quantizer = FSQ((2, 2, 2))
    with pytest.raises(TypeError, match="codebook that learns by gradient; FSQ has none: set revival=0"):
        IRISLoss(model, IRISLossConfig(revival=1))
    IRISLoss(model)
