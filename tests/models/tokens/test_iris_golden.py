"""IRIS computes what the authors' code computes."""

import pytest
import torch

from tests.support import golden_vectors
from wmcomponents.dynamics import CacheBounds
from wmcomponents.models import IRIS, IRISConfig
from wmcomponents.models.tokens.iris.official import RULES, merged
from wmcomponents.nn import LPIPS
from wmcomponents.pretrained.key_map import load_mapped, map_keys


def official_weights():
    """The checkpoint that the vectors' tokenizer and transformer would make together."""
    found = {}
    for part, name in (("tokenizer", "iris_tokenizer"), ("world_model", "iris_world_model_causal")):
        _, tensors = golden_vectors.load(name)
        found |= {f"{part}.{key[7:]}": value for key, value in tensors.items() if key.startswith("weight.")}
    return found


@pytest.fixture(scope="module")
def model():
    return IRIS.from_official(official_weights(), heads=2)


def assert_close(actual, expected, tolerance):
    torch.testing.assert_close(actual, expected, atol=tolerance["atol"], rtol=tolerance["rtol"])


def ours(tensors, prefix, part):
    """Tensors under an official prefix by our parameter names."""
    found = {f"{part}.{key[len(prefix) :]}": value for key, value in tensors.items() if key.startswith(prefix)}
    return map_keys(found, RULES)


def test_sizes_follow_from_the_weights(model):
    c, t = model.config.network.tokenizer, model.config.network.transformer
    assert (c.grid, c.channels, c.blocks, c.attention, c.latent_channels) == (4, 32, 1, (4, 8), 16)
    assert (c.vocabulary, c.code, t.layers, t.heads, t.dim, t.max_frames) == (32, 16, 2, 2, 32, 3)


def test_the_tokenizer_encodes_quantises_and_decodes(model):
    facts, t = golden_vectors.load("iris_tokenizer")
    tokenizer, x = model.tokenizer, t["input.observations"] * 2 - 1
    assert_close(tokenizer.encoder(x), t["output.encoder_features"], facts["tolerance"])
    z = t["output.z"]
    assert_close(tokenizer.encode(x).transpose(1, 2).reshape(z.shape), z, facts["tolerance"])
    tokens, codes, _ = tokenizer.tokenize(x)
    assert torch.equal(tokens, t["output.tokens"])
    assert_close(codes.transpose(1, 2).reshape(z.shape), t["output.z_quantized"], facts["tolerance"])
    assert_close((tokenizer.decode(codes) + 1) / 2, t["output.reconstruction_postprocessed"], facts["tolerance"])


def test_the_tokenizers_losses_and_gradients(model):
    facts, t = golden_vectors.load("iris_tokenizer")
    objective = IRIS.from_official(official_weights(), heads=2).objective()
    model = objective.world_model
    with objective.world_model_params.to_module(model):
        pixels = (t["input.observations"] * 255).permute(0, 2, 3, 1)
        losses = objective.tokenizer_terms(pixels, torch.ones(len(pixels))).losses
        total = sum(value.mean() for value in losses.values())
    assert not losses["squared"].any() and not losses["worst"].any()
    assert_close(losses["absolute"].mean(), t["loss.reconstruction_loss"], facts["tolerance"])
    assert_close(losses["commitment"].mean(), t["loss.commitment_loss"], facts["tolerance"])
    assert_close(total, t["loss.total_without_perceptual"], facts["tolerance"])
    total.backward()
    parameters = dict(objective.world_model_params.flatten_keys(".").items())
    gradients = ours(t, "grad.", "tokenizer")
    assert len(gradients) == 5
    for key, expected in gradients.items():
        assert_close(parameters[key].grad, expected, facts["tolerance"])


@pytest.fixture(params=["causal", "block_causal"])
def worded(request):
    """A model with one of the two masks, its vector and the facts about it."""
    facts, t = golden_vectors.load(f"iris_world_model_{request.param}")
    weights = {f"world_model.{key[7:]}": value for key, value in t.items() if key.startswith("weight.")}
    base = IRIS.from_official(official_weights(), heads=2)
    config = base.config.vary(causality=request.param)
    model = IRIS(config, base.observation_spec, base.action_spec)
    tokens = {key: value for key, value in official_weights().items() if key.startswith("tokenizer.")}
    return load_mapped(model, merged(weights | tokens), RULES).eval(), facts, t


def test_the_transformer_reads_whole_sequences(worded):
    model, facts, t = worded
    for name, length in (("full", 51), ("prefix40", 40)):
        said = model.dynamics.read(t["input.tokens"][:, :length])
        assert_close(said.tokens, t[f"output.{name}.logits_observations"], facts["tolerance"])
        assert_close(said.reward, t[f"output.{name}.logits_rewards"], facts["tolerance"])
        if name == "full":
            assert_close(said.terminated, t["output.full.logits_ends"], facts["tolerance"])
            assert_close(said.hidden, t["output.full.output_sequence"], facts["tolerance"])


def test_as_a_component_it_says_the_same(worded):
    model, facts, t = worded
    blocks = t["input.tokens"].unflatten(1, (3, 17))
    tokens, rewards, ends = model.dynamics.compute(blocks[..., :16], blocks[..., 16])
    assert_close(tokens.flatten(1, 2), t["output.full.logits_observations"], facts["tolerance"])
    assert_close(rewards, t["output.full.logits_rewards"], facts["tolerance"])
    assert_close(ends, t["output.full.logits_ends"], facts["tolerance"])


@pytest.mark.parametrize("looks", [True, False])
def test_the_transformer_reads_from_memory(worded, looks):

    model, facts, t = worded
    part, sequence = model.dynamics, t["input.tokens"]
    kv_cache, length, at, hidden, said = part.empty_kv_cache([2]), torch.zeros(2, 1, dtype=torch.int64), 0, [], []
    for piece in [16] + [1] * 35:
        x = part.embed(sequence[:, at : at + piece], at)
        hidden.append(part.decode_step(x, kv_cache, length, CacheBounds.of(length) if looks else CacheBounds()))
        said.append(part.logits(hidden[-1], at))
        at, length = at + piece, length + piece
    assert_close(torch.cat(hidden, 1), t["output.cached.output_sequence"], facts["tolerance"])
    assert_close(torch.cat([one.tokens for one in said], 1), t["output.cached.logits_observations"], facts["tolerance"])
    assert_close(torch.cat([one.reward for one in said], 1), t["output.cached.logits_rewards"], facts["tolerance"])
    assert_close(torch.cat([one.terminated for one in said], 1), t["output.cached.logits_ends"], facts["tolerance"])
    assert_close(kv_cache[:, 0, 0], t["output.cached.k_layer0"], facts["tolerance"])
    assert_close(kv_cache[:, 0, 1], t["output.cached.v_layer0"], facts["tolerance"])


def losses_of(vector, change=lambda data: data):
    """The transformer's losses on the vector's batch, put into TorchRL's layout."""
    from tensordict import TensorDict

    _, t = golden_vectors.load(vector)
    objective = IRIS.from_official(official_weights(), heads=2).eval().objective()
    objective.stage = "transformer"
    pixels = t["loss.input.observations"]
    shape = pixels.shape[:2]
    data = TensorDict(
        {
            "pixels": (pixels * 255).permute(0, 1, 3, 4, 2).contiguous(),
            "action": torch.nn.functional.one_hot(t["loss.input.actions"], 5),
            "is_init": torch.zeros(*shape, 1, dtype=torch.bool),
            "next": {
                "pixels": torch.zeros(*shape, 16, 16, 3),
                "reward": t["loss.input.rewards"].unsqueeze(-1),
                "terminated": t["loss.input.ends"].bool().unsqueeze(-1),
                "done": t["loss.input.ends"].bool().unsqueeze(-1),
            },
            "collector": {"mask": t["loss.input.mask_padding"].bool()},
        },
        shape,
    )
    return objective, change(data), t


def test_the_transformers_losses():
    facts, _ = golden_vectors.load("iris_world_model_causal")
    objective, data, t = losses_of("iris_world_model_causal")
    with objective.world_model_params.to_module(objective.world_model):
        segments = objective.segments(data)
    assert torch.equal(segments.tokens, t["loss.obs_tokens"])
    valid = segments.weight > 0
    classes = segments.reward.sign().long() + 1
    assert torch.equal(torch.where(valid, classes, -100).flatten(), t["loss.labels_rewards"])
    assert torch.equal(torch.where(valid, segments.terminated, -100).flatten(), t["loss.labels_ends"])
    words = torch.where(valid.unsqueeze(-1), segments.tokens, -100).flatten(1)[:, 1:]
    assert torch.equal(words.flatten(), t["loss.labels_observations"])
    out = objective(data)
    for name, key in (("tokens", "loss_obs"), ("reward", "loss_rewards"), ("termination", "loss_ends")):
        assert_close(out[f"loss_{name}"], t[f"loss.{key}"], facts["tolerance"])
    total = out["loss_tokens"] + out["loss_reward"] + out["loss_termination"]
    assert_close(total, t["loss.total"], facts["tolerance"])


def test_the_perceptual_head():
    facts, t = golden_vectors.load("iris_lpips_head")
    part = LPIPS(lambda x: [x])
    f = [t[f"input.feat0.{i}"] for i in range(5)]
    g = [t[f"input.feat1.{i}"] for i in range(5)]
    for i in range(5):
        part.weights[i].data.copy_(t[f"weight.lin{i}.model.1.weight"].flatten())
        assert_close(
            part.level_distance(f[i], g[i], part.weights[i]), t[f"output.level{i}"].flatten(), facts["tolerance"]
        )
    assert_close(part.distance(f, g), t["output.lpips"].flatten(), facts["tolerance"])
    assert_close(part.scaled(t["input.image"]), t["output.scaled_image"], facts["tolerance"])


def test_every_key_of_a_published_checkpoint_lands():
    facts, _ = golden_vectors.load("iris_checkpoint_keys")
    keys = {**facts["keys"], **facts["lpips_keys"]}
    generator = torch.Generator().manual_seed(0)
    weights = {
        key: torch.randn(shape, generator=generator) if dtype == "float32" else torch.zeros(shape, dtype=torch.int64)
        for key, (shape, dtype) in keys.items()
    }
    model = IRIS.from_official(weights)
    assert model.config == IRISConfig.atari()

    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(model.tokenizer) == facts["parameter_counts"]["tokenizer_without_lpips"]
    assert count(model.dynamics) == facts["parameter_counts"]["world_model"]
    # Every number of the two parts is found again, in one place.
    landed = [v for k, v in weights.items() if not any(s in k for s in ("lpips", ".mask", ".indices", "actor_critic"))]
    total = sum(float(value.double().sum()) for value in landed)
    assert abs(total - sum(float(value.double().sum()) for value in model.state_dict().values())) < 1e-3
