"""The losses of Delta-IRIS: stages, what counts, who learns, when the codebook moves."""

import pytest
import torch
from torch import nn
from torchrl.data import OneHot

from tests.support.models import CHANGES, SMALL
from tests.support.stages import at, data, parts_reached
from wmcomponents.functional import symlog
from wmcomponents.models import (
    DeltaIRIS,
    DeltaIRISConfig,
    DeltaIRISLoss,
    DeltaIRISLossConfig,
    DeltaIRISOptimizerConfig,
    DreamerV3,
    DreamerV3Config,
)


def built(**changes):
    torch.manual_seed(0)
    config = DeltaIRISConfig.tiny(**{**CHANGES, "tokenizer_steps": 2, "tokenizer_frames": 0, **changes})
    return DeltaIRIS(config, SMALL, OneHot(3))


@pytest.fixture
def model():
    return built()


def transitions(batch):
    x, y = (value.flatten(0, 1).movedim(-1, 1) / 255 for value in (batch["pixels"], batch["next", "pixels"]))
    return x, batch["action"].argmax(-1).flatten(), y


def test_each_stage_trains_its_part_alone(model):
    objective = model.objective()
    assert parts_reached(at(objective, "tokenizer"), data()) == {"tokenizer"}
    assert parts_reached(at(objective, "transformer"), data()) == {"dynamics"}


def test_what_is_written_is_what_is_declared(model):
    objective = model.objective()
    for stage in ("tokenizer", "transformer"):
        out = at(objective, stage)(data())
        assert set(out.keys()) == set(objective.out_keys)
        assert all(value.isfinite() for value in out.values())


def test_frames_are_scored_with_the_frame_before_and_the_action(model):
    objective, batch = at(model.objective(), "tokenizer"), data()
    out, (x, action, y), part = objective(batch), transitions(batch), model.tokenizer
    z = nn.functional.normalize(part.encode(x, action, y), dim=-1)
    code = part.quantizer.codebook[(z @ part.quantizer.codebook.T).argmax(-1)]
    error = part.decode(x, action, code) - y
    torch.testing.assert_close(out["loss_absolute"], 0.1 * error.abs().mean())
    torch.testing.assert_close(out["loss_squared"], error.square().mean())
    torch.testing.assert_close(out["loss_worst"], objective.worst * error.square().flatten(1).amax(1).mean())
    torch.testing.assert_close(out["loss_commitment"], 0.02 * (z - code).square().mean())
    assert 1 <= out["perplexity"] <= 16


def updated(model, steps, seed=0):
    """The codebook after each of some updates as a training loop takes them."""
    objective, codebooks = model.objective(), []
    optimizer = objective.make_optimizer(lr=0.0)
    for step in range(steps):
        objective.before_update(step)
        optimizer.zero_grad()
        sum(v for k, v in objective(data(seed=seed + step)).items() if k.startswith("loss_")).backward()
        optimizer.step()
        objective.after_update(step)
        codebooks.append(model.tokenizer.quantizer.codebook.clone())
    return codebooks


def test_the_codebook_moves_with_updates_of_the_tokenizer_alone(model):
    before = model.tokenizer.quantizer.codebook.clone()
    first, second, third = updated(model, 3)
    assert not torch.equal(before, first) and not torch.equal(first, second) and torch.equal(second, third)
    torch.testing.assert_close(second.norm(dim=-1), torch.ones(16))
    assert model.tokenizer.quantizer.updates == 2
    held = model.state_dict()
    assert torch.equal(held["tokenizer.quantizer.codebook"], second)


def test_looking_at_a_loss_moves_nothing(model):
    objective, before = at(model.objective(), "tokenizer"), model.tokenizer.quantizer.codebook.clone()
    with torch.no_grad():
        objective(data())
    objective.after_update(0)
    objective(data())
    at(objective, "transformer")(data())
    assert torch.equal(model.tokenizer.quantizer.codebook, before)


def test_padding_moves_no_code_and_costs_nothing():
    codebooks, losses = [], []
    for filled in (0, 255):
        model = built(revival=0)
        objective, batch = at(model.objective(), "tokenizer"), data(rows=2, steps=4)
        batch["collector", "mask"] = torch.ones(2, 4, dtype=torch.bool)
        batch["collector", "mask"][1, 2:] = False
        batch["pixels"][1, 2:] = filled
        losses.append(objective(batch))
        objective.after_update(0)
        codebooks.append(model.tokenizer.quantizer.codebook.clone())
    assert torch.equal(*codebooks)
    for key, value in losses[0].items():
        torch.testing.assert_close(value, losses[1][key])


def test_some_transitions_are_drawn_and_padding_never_is(model):
    objective = at(
        DeltaIRISLoss(model, DeltaIRISLossConfig(tokenizer_steps=1, tokenizer_frames=3), reduction="none"), "tokenizer"
    )
    batch = data(rows=2, steps=4)
    batch["collector", "mask"] = torch.zeros(2, 4, dtype=torch.bool)
    batch["collector", "mask"][0, :3] = True
    assert objective(batch)["loss_squared"].shape == (3, 1)
    with objective.world_model_params.to_module(objective.world_model):
        for _ in range(10):
            assert (objective._transitions(batch)[3] > 0).all()


def by_hand(model, batch, until, reward):
    """Mean cross entropies over the first ``until`` steps of each row."""
    words, pays, ends = [], [], []
    for row, steps in enumerate(until):
        one = batch[row, :steps]
        tokens = model.tokenizer.tokens(one["pixels"], one["action"].argmax(-1), one["next", "pixels"])
        frames = model.dynamics.frame_vector(one["pixels"]).unsqueeze(0)
        said = model.dynamics.read(frames, one["action"].argmax(-1).unsqueeze(0), tokens.unsqueeze(0))
        words.append(nn.functional.cross_entropy(said.tokens[0], tokens.flatten(), reduction="none"))
        pays.append(reward(said.reward[0], one["next", "reward"][:, 0]))
        dead = one["next", "terminated"][:, 0].long()
        ends.append(nn.functional.cross_entropy(said.terminated[0], dead, reduction="none"))
    return [torch.cat(one).mean() for one in (words, pays, ends)]


@pytest.mark.parametrize("cut", ["terminated", "truncated", "is_init", "mask"])
def test_a_piece_counts_up_to_its_first_end_and_shows_the_frame_behind_it(model, cut):
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

    def sign(logits, reward):
        return nn.functional.cross_entropy(logits, reward.sign().long() + 1, reduction="none")

    out, (words, pays, ends) = objective(batch), by_hand(model, batch, (3, 2), sign)
    torch.testing.assert_close(out["loss_tokens"], words)
    torch.testing.assert_close(out["loss_reward"], pays)
    torch.testing.assert_close(out["loss_termination"], 0.1 * ends)


def test_rewards_may_be_spread_over_two_bins_in_symlog_space():
    model = built(rewards="two_hot").eval()
    objective, batch = at(model.objective(), "transformer"), data()
    batch["next", "reward"] *= 10

    def two_hot(logits, reward):
        place = (symlog(reward) + 20) / 40 * 254
        low, part = place.floor().long(), place - place.floor()
        target = torch.zeros_like(logits).scatter_(1, low[:, None], 1 - part[:, None])
        return -(target.scatter_add_(1, low[:, None] + 1, part[:, None]) * logits.log_softmax(-1)).sum(-1)

    torch.testing.assert_close(
        objective(batch)["loss_reward"], by_hand(model, batch, (3, 3), two_hot)[1], rtol=1e-4, atol=1e-5
    )


def test_long_sequences_are_cut_to_the_context_and_the_next_piece_counts_again(model):
    model.eval()
    objective, batch = at(model.objective(), "transformer"), data(rows=1, steps=7)
    batch["next", "done"][0, 1] = True
    with objective.world_model_params.to_module(objective.world_model):
        changes = objective.changes(batch)
    assert changes.weight.tolist() == [[1, 1, 0, 0], [1, 1, 1, 0]]
    assert torch.equal(changes.pixels.flatten(0, 1)[:7], batch["pixels"][0]) and changes.pixels.dtype is torch.uint8


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_only_linear_maps_decay_and_norms_are_clipped_apart(model, decay):
    objective = DeltaIRISLoss(model, optimizer=DeltaIRISOptimizerConfig(tokenizer_decay=decay))
    optimizer = objective.make_optimizer()
    names = {id(p): name for name, p in objective.world_model_params.flatten_keys(".").items()}
    decaying = {names[id(p)] for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    tokenizers = {"tokenizer.to_code.weight", "tokenizer.from_code.weight"} if decay else set()
    assert {name for name in decaying if name.startswith("tokenizer")} == tokenizers
    assert len(decaying - tokenizers) == 2 * 4 + 3 * 2 and not any("encoder" in name for name in decaying)
    assert {g["max_norm"] for g in optimizer.param_groups} == {10.0} and {g["lr"] for g in optimizer.param_groups} == {
        1e-4
    }
    assert list(dict.fromkeys(g["clip"] for g in optimizer.param_groups)) == ["tokenizer", "transformer"]
    every = [id(p) for g in optimizer.param_groups for p in g["params"]]
    assert len(every) == len(set(every)) == sum(p.requires_grad for p in model.parameters())


def test_what_cannot_be_is_refused(model):
    with pytest.raises(ValueError, match="leaves the transformer its turns"):
        DeltaIRISLoss(model, DeltaIRISLossConfig(tokenizer_steps=1, tokenizer_every=1))
    with pytest.raises(TypeError, match="DreamerV3 is no CachedTransformerModel: use the loss that its own objective"):
        DeltaIRISLoss(DreamerV3(DreamerV3Config.tiny(mults=(1, 2)), SMALL, OneHot(3)))
    for stage in ("tokenizer", "transformer"):
        with pytest.raises(ValueError, match=r"\[B, T\]"):
            at(model.objective(), stage)(data()[0])
        with pytest.raises(KeyError, match="sequences lack"):
            at(model.objective(), stage)(data().exclude("action"))
        with pytest.raises(KeyError, match="sequences lack"):
            at(model.objective(), stage)(data().exclude(("next", "pixels")))


def test_the_codebook_follows_all_batches_of_an_update_and_only_those(model):
    loss = model.objective()
    x, y, z = torch.ones(2), torch.zeros(3), torch.full((1,), 5.0)
    loss.saw(x)
    loss.saw(y)
    assert torch.equal(*loss.seen(), y) and loss.seen() is None
    loss.before_update(0)
    loss.saw(x)
    loss.saw(z)
    assert torch.equal(*loss.seen(), torch.cat([x, z]))
