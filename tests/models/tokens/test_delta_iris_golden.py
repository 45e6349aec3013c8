"""Delta-IRIS computes what the authors' code computes."""

import pytest
import torch
from torch.nn import functional as F

from tests.support import golden_vectors
from wmcomponents.dynamics.tokens.block_transformer import CacheBounds
from wmcomponents.models import DeltaIRIS, DeltaIRISConfig
from wmcomponents.models.tokens.delta_iris.objective import ChangePieces
from wmcomponents.nn import CosineQuantizer

KINDS = {"sign": "sign", "two_hot": "twohot"}


def mean(value, weight):
    """Of the elements that count; a term may be shorter in time than its weight."""
    weight = weight[:, : value.shape[1]]
    return value[weight > 0].sum() / weight.sum()


def official_weights(rewards="sign"):
    """The checkpoint that the vectors' tokenizer and transformer would make together."""
    found = {}
    for part, name in (("tokenizer", "delta_iris_tokenizer"), ("world_model", f"delta_iris_world_model_{rewards}")):
        _, tensors = golden_vectors.load(name)
        found |= {f"{part}.{key[7:]}": value for key, value in tensors.items() if key.startswith("weight.")}
    return found


def loaded(rewards="sign"):
    return DeltaIRIS.from_official(official_weights(rewards), heads=2)


@pytest.fixture(scope="module")
def model():
    return loaded()


def assert_close(actual, expected, tolerance):
    torch.testing.assert_close(actual, expected, atol=tolerance["atol"], rtol=tolerance.get("rtol", 0.0))


def flat(value):
    return value.flatten(0, 1)


def bytes_of(observations):
    """Frames in [0, 1], channels first, as frames in [0, 255], channels last."""
    return (observations * 255).movedim(-3, -1)


def test_sizes_follow_from_the_weights(model):
    c = model.config.network
    assert (c.mults, c.halves) == ((1, 1), (True, True))
    c, t = c.tokenizer, c.transformer
    assert (c.tokens, c.channels, c.features) == (4, 32, 8)
    assert (c.context_channels, c.context, c.action_channels, c.vocabulary, c.code) == (32, 4, 2, 16, 8)
    assert (t.layers, t.heads, t.frame_channels, t.frame_features, t.max_blocks) == (2, 2, 32, 2, 6)
    assert t.rewards == "sign" and loaded("twohot").config.network.transformer.rewards == "two_hot"


def test_the_tokenizer_encodes_quantises_and_decodes(model):
    facts, t = golden_vectors.load("delta_iris_tokenizer")
    part, x = model.tokenizer, t["input.observations"]
    before, action, after = flat(x[:, :-1]), flat(t["input.actions"][:, :-1]), flat(x[:, 1:])
    assert_close(part.features(before, action, after), flat(t["output.z"]), facts["tolerance"])
    tokens, codes, _ = part.tokenize(before, action, after)
    assert torch.equal(tokens, flat(t["output.tokens"]))
    assert_close(part.from_code(codes), flat(t["output.q"]), facts["tolerance"])
    looked = part.quantizer.lookup(tokens)
    assert_close(part.from_code(looked), flat(t["output.embed_tokens"]), facts["tolerance"])
    levels = part.decode(before, action, looked).clamp(0, 1).mul(255)
    grid, expected = levels.round(), flat(t["output.reconstruction_clamped_uint8grid"]) * 255
    # The vector's own note: what lies on the boundary between two levels may fall to either side.
    boundary = (levels - levels.floor() - 0.5).abs() < 255 * facts["tolerance"]["atol"]
    assert_close(grid[~boundary], expected[~boundary], facts["tolerance"])
    assert boundary.float().mean() < 0.02 and (grid - expected).abs().max() < 1.001
    shown = part.pixels(bytes_of(before), action, tokens)
    assert torch.equal(shown.movedim(-1, 1).float(), grid) and shown.dtype is torch.uint8


def test_the_tokenizers_losses(model):
    facts, t = golden_vectors.load("delta_iris_tokenizer")
    objective, x, mask = loaded().objective(), bytes_of(t["input.observations"]), t["input.mask_padding"].bool()
    valid = flat(mask[:, 1:] & mask[:, :-1]).float()
    with objective.world_model_params.to_module(objective.world_model):
        terms = objective.tokenizer_terms(flat(x[:, :-1]), flat(t["input.actions"][:, :-1]), flat(x[:, 1:]), valid)
    names = {"absolute": "l1", "squared": "l2", "worst": "l2_worst_pixel"}
    losses = {name: mean(terms.losses[name], terms.weight) for name in names}
    for name, official in names.items():
        assert_close(losses[name], t[f"loss.reconstruction_loss_{official}"], facts["tolerance"])
    # The authors count the commitment of padding too.
    commitment = terms.losses["commitment"].mean()
    assert_close(commitment, t["loss.commitment_loss"], facts["tolerance"])
    assert_close(sum(losses.values()) + commitment, t["loss.total"], facts["tolerance"])


def test_the_codebook_follows_a_batch():
    facts, t = golden_vectors.load("delta_iris_quantizer_train")
    part, tolerance = CosineQuantizer(16, 8), facts["tolerance"]
    part.codebook.copy_(t["weight.codebook"])
    part.usage.frequency.copy_(t["weight.codewords_freqs"])
    names = ("pre_quant_proj", "post_quant_proj")
    maps = {name: (t[f"weight.{name}.weight"], t[f"weight.{name}.bias"]) for name in names}
    z = t["input.z"].requires_grad_()
    inner = F.linear(z, *maps["pre_quant_proj"])
    codes, tokens, loss = part(inner)
    q = F.linear(codes, *maps["post_quant_proj"])
    assert torch.equal(tokens, t["output.tokens"])
    assert_close(q, t["output.q"], tolerance)
    assert_close(loss.mean(), t["output.commitment_loss"], tolerance)
    part.update_(inner, tokens, torch.rand(16))
    assert_close(part.codebook, t["output.codebook_after"], tolerance)
    assert_close(part.usage.frequency, t["output.codewords_freqs_after"], tolerance)
    assert_close(part.usage.entropy, t["output.entropy_after_bits"], tolerance)
    assert part.updates == t["weight.num_codebook_updates"] + 1
    # What was looked up before the codebook moved is what gradients are of.
    (grad,) = torch.autograd.grad(q.square().sum() + loss.mean(), z)
    assert_close(grad, t["output.grad_z_of_sumsq_plus_commit"], {"rtol": 1e-4, **tolerance})


@pytest.fixture(params=["sign", "two_hot"])
def worded(request):
    """A model with one of the two kinds of reward, its vector, and the tokens of the changes, the last filled up."""
    facts, t = golden_vectors.load(f"delta_iris_world_model_{KINDS[request.param]}")
    return loaded(KINDS[request.param]), facts, t, F.pad(t["input.latent_tokens"], (0, 0, 0, 1))


def test_the_transformer_reads_whole_sequences(worded):
    model, facts, t, tokens = worded
    part, tolerance = model.dynamics, facts["tolerance"]
    frames = part.frame_vector(bytes_of(t["input.observations"]))
    assert_close(frames.unsqueeze(2), t["output.frames_emb"], tolerance)
    x = part.embed(frames, t["input.actions"], tokens)
    assert_close(x, t["output.sequence"], tolerance)
    said = part.logits(part.outputs(x), 0)
    assert_close(said.hidden, t["output.output_sequence"], tolerance)
    assert_close(said.tokens, t["output.logits_latents"], tolerance)
    assert_close(said.reward, t["output.logits_rewards"], tolerance)
    assert_close(said.terminated, t["output.logits_ends"], tolerance)


def test_as_a_component_it_says_the_same(worded):
    model, facts, t, tokens = worded
    words, rewards, ends = model.dynamics(bytes_of(t["input.observations"]), t["input.actions"], tokens)
    assert_close(words.flatten(1, 2), t["output.logits_latents"], facts["tolerance"])
    assert_close(rewards, t["output.logits_rewards"], facts["tolerance"])
    assert_close(ends, t["output.logits_ends"], facts["tolerance"])


@pytest.mark.parametrize("looks", [True, False])
def test_the_transformer_reads_from_memory(worded, looks):
    model, facts, t, _ = worded
    part, sequence = model.dynamics, t["output.sequence"]
    kv_cache, length, said = part.empty_kv_cache([2]), torch.zeros(2, 1, dtype=torch.int64), []
    for at in range(sequence.shape[1]):
        bounds = CacheBounds.of(length) if looks else CacheBounds()
        said.append(part.logits(part.decode_step(sequence[:, at : at + 1], kv_cache, length, bounds), at))
        length = length + 1
    for kind, key in (("tokens", "latents"), ("reward", "rewards"), ("terminated", "ends")):
        found = torch.cat([getattr(one, kind) for one in said], 1)
        assert_close(found, t[f"output.cached.logits_{key}"], facts["tolerance"])


def test_the_filter_says_the_same_of_the_vectors_frames(worded):
    """The action that led to a frame is given with the frame here, and with the frame before in the vector."""
    model, facts, t, tokens = worded
    frames, action = bytes_of(t["input.observations"]).round().to(torch.uint8), t["input.actions"]
    assert_close(frames.float() / 255, t["input.observations"].movedim(-3, -1), {"atol": 1e-6})
    led = F.one_hot(F.pad(action[:, :-1], (1, 0)), 5)
    init = torch.zeros(2, 4, 1, dtype=torch.bool)
    init[:, 0] = True
    states = model.observe_sequence(model.initial_state((2,)), led, {"pixels": frames}, init, None)
    assert torch.equal(states["tokens"][:, 1:], t["input.latent_tokens"])
    hidden = t["output.output_sequence"].unflatten(1, (4, 6))[:, :-1, 1]
    assert_close(states["hidden"][:, 1:], hidden, facts["tolerance"])
    made = model.imagine({key: value[:, -1] for key, value in states.items()}, F.one_hot(action[:, -1], 5), None)
    assert_close(made.cont[:, 0], t["output.logits_ends"][:, -1].softmax(-1)[:, 0], facts["tolerance"])
    reward = model.rewards.reward(t["output.logits_rewards"][:, -1])
    assert_close(made.reward[:, 0], reward, facts["tolerance"])
    assert torch.equal(made.state["tokens"][:, 0], t["output.logits_latents"][:, 12].argmax(-1))


@pytest.mark.parametrize("inplace", [True, False])
def test_a_dreams_contexts_are_the_authors_step_by_step_refresh_included(model, inplace):
    """A past of three frames, then seven steps in a context of six blocks, the likeliest class each time."""
    facts, t = golden_vectors.load("delta_iris_dream_rollout")
    tolerance, seen = facts["tolerance"], bytes_of(t["input.observations"]).round().to(torch.uint8)
    led = F.one_hot(F.pad(t["input.past_actions"], (1, 0)), 5)
    init = torch.tensor([True, False, False]).view(1, 3, 1).expand(2, 3, 1)
    state = model.observe_last(model.initial_state((2,)), led, {"pixels": seen}, init, None)
    # What the authors read of that past: its blocks, and the present frame's vector behind them.
    part, vectors = model.dynamics, model.dynamics.frame_vector(seen)
    changes = model.tokenizer.tokens(seen[:, :-1], t["input.past_actions"], seen[:, 1:])
    past = torch.cat([part.embed(vectors[:, :-1], t["input.past_actions"], changes), vectors[:, -1:]], 1)
    assert_close(part.outputs(past)[:, -1:], t["output.first_wm_output"], tolerance)
    step = model.imagine_inplace if inplace else model.imagine
    left, positions = [], part.max_positions
    for number, action in enumerate(t["input.actions"]):
        state, reward, cont = step(state, F.one_hot(action, 5), None)
        assert torch.equal(reward[:, 0], t["output.rewards"][number])
        assert torch.equal(cont[:, 0] < 0.5, t["output.dones"][number].bool())
        theirs = bytes_of(t["output.frames"][:, number]).round()
        apart = (state["frame"].float() - theirs).abs()
        assert apart.max() <= 1 and (apart > 0).float().mean() < 0.01  # on the boundary between two bytes
        # Both go on from one frame: a boundary that falls to the other side is no fault of the next step.
        state["frame"] = theirs.to(torch.uint8)
        state["vector"] = part.frame_vector(state["frame"])
        left.append((positions - state["length"]) / part.block)
    # Before the first step they had 3.83 left, with the present frame in the cache; here it is read with the action.
    expected = t["output.blocks_left_after"][1:].view(7, 1, 1).expand(7, 2, 1)
    assert_close(torch.stack(left), expected, {"atol": 1e-6})
    assert [round(float(value[0]), 2) for value in left] == [3.17, 2.17, 1.17, 0.17, 5.17, 4.17, 3.17]


def test_the_transformers_losses(worded):
    model, facts, t, tokens = worded
    objective, mask = model.objective(), t["input.mask_padding"].bool()
    objective.token_scale.fill_(0.1)
    objective.termination_scale.fill_(0.1)
    known = F.pad((mask[:, 1:] & mask[:, :-1]).float(), (0, 1))
    changes = ChangePieces(
        bytes_of(t["input.observations"]),
        t["input.actions"],
        tokens,
        t["input.rewards"],
        t["input.ends"],
        mask.float(),
    )
    with objective.world_model_params.to_module(objective.world_model):
        losses, info, weights = objective.transformer_terms(changes)
    # Here the last frame has none after it; TorchRL's sequences have one, under "next".
    words = known.repeat_interleave(tokens.shape[-1], 1)
    weights = {**weights, "tokens": words, "accuracy": words}
    for name, key in (("tokens", "latents"), ("reward", "rewards"), ("termination", "ends")):
        assert_close(mean(losses[name], weights[name]), t[f"loss.loss_{key}"], facts["tolerance"])
    assert_close(mean(info["accuracy"], weights["accuracy"]), t["metric.latent_accuracy"], facts["tolerance"])


@pytest.mark.parametrize("published", ["atari_4_actions", "crafter_17_actions"])
def test_every_key_of_a_published_checkpoint_lands(published):
    facts, _ = golden_vectors.load("delta_iris_checkpoint_keys")
    keys, counts = facts[published]["keys"], facts[published]["parameter_counts"]
    generator = torch.Generator().manual_seed(0)
    types = {"int64": torch.int64, "bool": torch.bool}
    weights = {
        key: torch.zeros(shape, dtype=types[dtype]) if dtype in types else torch.randn(shape, generator=generator)
        for key, (shape, dtype) in keys.items()
    }
    model = DeltaIRIS.from_official(weights)
    assert model.config == getattr(DeltaIRISConfig, published.split("_")[0])()
    for part, name in ((model.tokenizer, "tokenizer"), (model.dynamics, "world_model")):
        assert sum(parameter.numel() for parameter in part.parameters()) == counts[name]
    # Every number of the two parts is found again, in one place.
    left_out = (".mask", ".indices", "actor_critic")
    landed = [value for key, value in weights.items() if not any(name in key for name in left_out)]
    total = sum(float(value.double().sum()) for value in landed)
    assert abs(total - sum(float(value.double().sum()) for value in model.state_dict().values())) < 1e-3
