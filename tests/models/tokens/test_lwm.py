"""The assembled LWM: words and codes in one sequence, dreams from memory, guidance, packing, stages, weights."""

import pytest
import torch
from torch.nn import functional as F
from torchrl.data import Bounded, Composite, OneHot

from tests.support.models import SMALL, TEXTS, lwm
from tests.support.stages import at, data, parts_reached
from wmcomponents.dynamics import TextVisionTransformer, Words
from wmcomponents.models import (
    LWM,
    TEXT_STAGES,
    VISION_STAGES,
    ContextStage,
    IRISConfig,
    LWMConfig,
    LWMLoss,
    text_vision_loss,
)
from wmcomponents.nn import RingAttention, feed_forward_blockwise_, sequence_parallel_
from wmcomponents.pretrained import BadModelError

K, EOF = 4, 16
UNEVEN = Composite(pixels=Bounded(0, 255, (36, 36, 3), dtype=torch.uint8))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return lwm(LWMConfig.tiny(**TEXTS, top_k=9), SMALL, OneHot(3)).eval()


def begun(model, rows):
    pixels = torch.randint(256, (rows, 16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    state, init = model.initial_state((rows,)), torch.ones(rows, 1, dtype=torch.bool)
    return model.observe(state, model.null_action((rows,)), {"pixels": pixels}, init, None)


def acts(rows, steps):
    return F.one_hot(torch.randint(3, (steps, rows), generator=torch.Generator().manual_seed(1)), 3)


def noises(model, rows, steps):
    drawn = model.noise_source("imagine")((steps, rows), torch.Generator().manual_seed(2))
    return [{key: value[t] for key, value in drawn.items()} for t in range(steps)]


def drawn(logits, u, top_k=None):
    if top_k is not None:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[-1], float("-inf"))
    return int((logits.softmax(-1).cumsum(-1)[:-1] <= u).sum())


@torch.no_grad()
def read(part, context):
    """Logits behind a list of (number, whether it is a code)."""
    numbers, is_vision = (torch.tensor([column]) for column in zip(*context, strict=True))
    said = part.read(numbers, is_vision.bool())
    return said.text[0, -1], said.vision[0, -1, :EOF]


def frame(codes):
    return [*((int(code), True) for code in codes), (EOF, True)]


def test_a_dream_from_memory_is_the_dream_that_reads_everything_anew(model):
    rows, steps, part = 2, 5, model.dynamics
    state, actions, noise = begun(model, rows), acts(rows, steps), noises(model, rows, steps)
    contexts, rebuilt = [frame(codes) for codes in state["tokens"]], 0
    for t in range(steps):
        before = state["tokens"]
        state, reward, cont = model.imagine(state, actions[t], noise[t])
        for row in range(rows):
            if len(contexts[row]) + K + 2 > part.max_positions:
                contexts[row], rebuilt = frame(before[row]), rebuilt + 1
            contexts[row].append((4 + int(actions[t, row].argmax()), False))  # 12 words: 4, 5, 6 are the actions
            text, vision = read(part, contexts[row])
            assert reward[row].item() == drawn(text[7:10], noise[t]["reward"][row]) - 1
            assert abs(cont[row].item() - text[10:].softmax(-1)[0]) < 1e-4
            made = []
            for k in range(K):
                made.append(drawn(vision, noise[t]["tokens"][row, k], 9))
                _, vision = read(part, [*contexts[row], *((code, True) for code in made)])
            assert state["tokens"][row].tolist() == made
            contexts[row] += frame(made)
            assert state["length"][row].item() == len(contexts[row])
    assert rebuilt == 2 * rows


def test_an_accelerators_way_which_looks_at_no_number_is_the_cpus_way(model, monkeypatch):
    looked = unlooked = begun(model, 3)
    for action, noise in zip(acts(3, 4), noises(model, 3, 4), strict=True):
        looked = model.imagine(looked, action, noise)
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_compiling", lambda: True)
            unlooked = model.imagine(unlooked, action, noise)
        assert torch.equal(looked.state["tokens"], unlooked.state["tokens"])
        torch.testing.assert_close(looked.cont, unlooked.cont, rtol=1e-4, atol=1e-5)
        looked, unlooked = looked.state, unlooked.state


def test_whole_sequences_are_scored_as_they_are_read_and_episodes_do_not_see_each_other(model):
    tokens, action = torch.randint(16, (1, 3, K)), torch.tensor([[0, 2, 1]])
    codes, rewards, ends = model.dynamics.compute(tokens, action)
    assert codes.shape == (1, 3, K + 1, 18) and rewards.shape == (1, 3, 3) and ends.shape == (1, 3, 2)
    context = [*frame(tokens[0, 0]), (4, False), *frame(tokens[0, 1]), (6, False)]
    text, vision = read(model.dynamics, context)
    torch.testing.assert_close(codes[0, 1, -1, :EOF], vision, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rewards[0, 1], text[7:10], rtol=1e-4, atol=1e-4)
    _, vision = read(model.dynamics, context[: K + 4])
    torch.testing.assert_close(codes[0, 1, 1, :EOF], vision, rtol=1e-4, atol=1e-4)
    apart = model.dynamics.along(tokens, action, torch.tensor([[0, 1, 1]]))
    alone = model.dynamics.compute(tokens[:, 1:], action[:, 1:])
    for one, other in zip(apart, alone, strict=True):
        torch.testing.assert_close(one[:, 1:], other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_images_behind_a_text_are_what_both_contexts_say_read_anew(model, guidance):
    part, prompt, empty = model.dynamics, torch.tensor([[1, 2, 3, 0]]), torch.tensor([[1, 0]])
    first, noise = torch.randint(16, (1, 1, K)), torch.rand(1, 2, K, generator=torch.Generator().manual_seed(3))
    made = part.generate(prompt, 2, unconditional=empty, guidance=guidance, top_k=5, first=first, noise=noise)
    contexts = [[(int(word), False) for word in text[0]] + frame(first[0, 0]) for text in (prompt, empty)]
    for number in range(2):
        for k in range(K):
            with_text, without = (read(part, context)[1] for context in contexts)
            logits = without + guidance * (with_text - without)
            code = drawn(logits, noise[0, number, k], 5)
            assert made[0, number, k].item() == code
            contexts = [[*context, (code, True)] for context in contexts]
        contexts = [[*context, (EOF, True)] for context in contexts]
    likeliest = part.generate(prompt, 1)
    assert likeliest.shape == (1, 1, K) and torch.equal(likeliest, part.generate(prompt, 1))


def test_the_loss_is_the_mean_of_two_means():
    logits = [torch.randn(1, 4, 6), torch.randn(1, 4, 9)]
    target, is_vision = torch.tensor([[5, 8, 1, 7]]), torch.tensor([[False, True, False, True]])
    weight = torch.tensor([[1.0, 1.0, 3.0, 1.0]])
    each = [F.cross_entropy(logits[int(v)][0, t], target[0, t]) for t, v in enumerate(is_vision[0])]
    wanted = 0.5 * (each[0] + 3 * each[2]) / 4 + 0.5 * (each[1] + each[3]) / 2
    torch.testing.assert_close(text_vision_loss(logits_of(logits), target, is_vision, weight), wanted)
    words = text_vision_loss(logits_of(logits), target, torch.zeros_like(is_vision), weight * ~is_vision)
    torch.testing.assert_close(words, 0.5 * (each[0] + 3 * each[2]) / 4)


def logits_of(pair):
    from wmcomponents.dynamics import TextVisionLogits

    return TextVisionLogits(*pair)


def fresh():
    torch.manual_seed(0)
    return lwm(LWMConfig.tiny(**TEXTS, tokenizer_steps=2, tokenizer_frames=0), SMALL, OneHot(3))


def test_each_stage_trains_its_part_alone_and_writes_what_it_declares():
    objective = fresh().objective()
    assert isinstance(objective, LWMLoss)
    for stage, part in (("tokenizer", "tokenizer"), ("transformer", "dynamics")):
        assert parts_reached(at(objective, stage), data()) == {part}
        assert set(objective(data()).keys()) == set(objective.out_keys)


def test_packed_episodes_count_as_much_as_when_each_is_alone():
    model = fresh()
    objective = at(model.objective(), "transformer")
    whole, names = data(rows=1, steps=3), ("loss_tokens", "loss_reward", "loss_termination")
    whole["next", "done"][:, 0] = whole["next", "terminated"][:, 0] = whole["is_init"][:, 1] = True
    packed = objective(whole)
    short, long = (at(model.objective(), "transformer")(whole[:, part]) for part in (slice(0, 1), slice(1, 3)))
    for name in names:
        torch.testing.assert_close(packed[name], (short[name] + long[name]) / 2, rtol=1e-4, atol=1e-5)


def test_the_losses_are_halves_and_quarters_of_what_the_logits_say():
    model, batch = fresh(), data(rows=1, steps=3)
    out = at(model.objective(), "transformer")(batch)
    tokens, action = model.tokenizer.tokens(batch["pixels"]), batch["action"].argmax(-1)
    codes, rewards, ends = model.dynamics.compute(tokens, action)
    target = F.pad(tokens, (0, 1), value=EOF).flatten()[1:]
    wanted = 0.5 * F.cross_entropy(codes.flatten(0, 2)[:-1], target)
    torch.testing.assert_close(out["loss_tokens"], wanted, rtol=1e-4, atol=1e-5)
    signs = batch["next", "reward"].flatten().sign().long() + 1
    torch.testing.assert_close(out["loss_reward"], 0.25 * F.cross_entropy(rewards[0], signs), rtol=1e-4, atol=1e-5)
    goes_on = torch.zeros(3, dtype=torch.int64)
    torch.testing.assert_close(out["loss_termination"], 0.25 * F.cross_entropy(ends[0], goes_on), rtol=1e-4, atol=1e-5)


def test_it_learns_with_ring_attention_and_blockwise_feed_forwards_as_without():
    found = []
    for rings in (False, True):
        model = fresh()
        if rings:
            sequence_parallel_(model.dynamics.transformer, RingAttention(query_chunk=4, key_chunk=8))
            feed_forward_blockwise_(model.dynamics.transformer, 4)
        objective = at(model.objective(), "transformer")
        out = objective(data())
        sum(value for key, value in out.items() if key.startswith("loss_")).backward()
        grads = [p.grad for p in model.dynamics.parameters()]
        found.append([out["loss_tokens"].detach(), *grads])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


# -- weights and sizes -------------------------------------------------------------------------------------------------


def official(layers=2, dim=8, hidden=16, words=12, codes=18):
    """Weights by the names of the authors' code, with normal numbers."""
    generator = torch.Generator().manual_seed(4)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    found = {
        "transformer": {
            "wte": {"embedding": normal(words, dim)},
            "vte": {"embedding": normal(codes, dim)},
            "ln_f": {"kernel": normal(dim)},
            "h": {
                str(layer): {
                    "attention": {name: {"kernel": normal(dim, dim)} for name in ("wq", "wk", "wv", "wo")},
                    "feed_forward": {
                        "w1": {"kernel": normal(dim, hidden)},
                        "w2": {"kernel": normal(hidden, dim)},
                        "w3": {"kernel": normal(dim, hidden)},
                    },
                    "attention_norm": {"kernel": normal(dim)},
                    "ffn_norm": {"kernel": normal(dim)},
                }
                for layer in range(layers)
            },
        },
        "lm_head": {"kernel": normal(dim, words)},
        "vision_head": {"kernel": normal(dim, codes)},
    }
    return {"params": found}


def llama(weights, tokens, is_vision, theta=1e4, heads=2):
    """The authors' network in the plainest words: complex numbers for positions, one head at a time."""
    w = weights["params"]
    t = w["transformer"]

    def norm(x, scale):
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * scale

    x = torch.where(is_vision[:, None], t["vte"]["embedding"][tokens], t["wte"]["embedding"][tokens % 12])
    size = x.shape[-1] // heads
    angle = torch.arange(len(x))[:, None] * theta ** (-torch.arange(0, size, 2) / size)
    turn = torch.polar(torch.ones_like(angle), angle)
    causal = torch.ones(len(x), len(x), dtype=torch.bool).tril()
    for block in t["h"].values():
        y = norm(x, block["attention_norm"]["kernel"])
        q, k, v = (y @ block["attention"][name]["kernel"] for name in ("wq", "wk", "wv"))
        outs = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            q1, k1 = (
                torch.view_as_real(torch.view_as_complex(z[:, own].reshape(len(x), -1, 2)) * turn).flatten(1)
                for z in (q, k)
            )
            logits = (q1 @ k1.T / size**0.5).masked_fill(~causal, float("-inf"))
            outs.append(logits.softmax(-1) @ v[:, own])
        x = x + torch.cat(outs, -1) @ block["attention"]["wo"]["kernel"]
        y, f = norm(x, block["ffn_norm"]["kernel"]), block["feed_forward"]
        x = x + (F.silu(y @ f["w1"]["kernel"]) * (y @ f["w3"]["kernel"])) @ f["w2"]["kernel"]
    x = norm(x, t["ln_f"]["kernel"])
    return x @ w["lm_head"]["kernel"], x @ w["vision_head"]["kernel"]


def test_weights_by_the_authors_names_land_and_give_the_authors_network():
    weights = official()
    model = LWM(LWMConfig.tiny(**{**TEXTS, "dim": 8}), SMALL, OneHot(3)).load_official(weights)
    tokens, is_vision = torch.tensor([3, 1, 17, 0, 9, 11]), torch.tensor([0, 0, 1, 1, 1, 0]).bool()
    said = model.dynamics.read(tokens[None], is_vision[None])
    text, vision = llama(weights, tokens, is_vision)
    torch.testing.assert_close(said.text[0], text, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(said.vision[0], vision, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("missing", ["wk", "w3", "wq"])
def test_weights_that_are_not_whole_are_refused(missing):
    weights = official()
    for part in weights["params"]["transformer"]["h"]["0"].values():
        part.pop(missing, None)
    with pytest.raises(BadModelError, match="beside it"):
        LWM(LWMConfig.tiny(**{**TEXTS, "dim": 8}), SMALL, OneHot(3)).load_official(weights)


def test_the_published_size_is_llamas_with_two_tables_for_images():
    c = LWMConfig.size7b().network
    with torch.device("meta"):
        net = TextVisionTransformer(c.tokenizer.vocabulary, 4)
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters()}
    assert sum(p.numel() for p in net.parameters()) == 6_738_415_616 + 2 * 8448 * 4096
    assert shapes["text_embedding.weight"] == (32_000, 4096) and shapes["vision_head.weight"] == (8448, 4096)
    assert shapes["transformer.blocks.31.attention.qkv.weight"] == (3 * 4096, 4096)
    assert shapes["transformer.blocks.31.mlp.0.w12.weight"] == (2 * 11_008, 4096)
    assert net.block == 258 and LWM.presets()[:2] == ("tiny", "size200m")


def test_the_context_grows_with_the_same_weights_and_another_theta(model):
    longer = model.at_stage(ContextStage(40, 5e5, 1, 1, 1e-4, 1e-4))
    assert longer.dynamics.max_frames == 6 and longer.dynamics.transformer.blocks[0].attention.rope.base == 5e5
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), longer.parameters(), strict=True))
    assert not longer.training
    assert [stage.theta for stage in TEXT_STAGES] == [1e6, 1e7, 1e7, 2.5e7, 5e7]
    assert {stage.theta for stage in VISION_STAGES} == {5e7} and VISION_STAGES[-1].context == 2**20
    with pytest.raises(ValueError, match="does not hold two frames"):
        model.at_stage(ContextStage(11, 1e4, 1, 1, 1e-4, 1e-4))


def test_actions_are_words_of_the_users_tokenizer():
    known = {"left": [3], "right": [0], "stay": [1], "loss": [5], "nothing": [6], "gain": [7], "on": [8], "end": [9]}
    config = LWMConfig.tiny(**TEXTS).speaking(known.__getitem__, ("left", "right", "stay"))
    model = LWM(config, SMALL, OneHot(3))
    table = model.dynamics.text_embedding.weight
    assert torch.equal(model.dynamics.embed_action(torch.tensor([1]))[0, 0], table[0])
    with pytest.raises(ValueError, match="one word"):
        LWMConfig.tiny(**TEXTS).speaking(lambda name: [1, 2], ("left",))
    with pytest.raises(ValueError, match="from 0 to 11"):
        LWMConfig.tiny(**TEXTS).speaking(lambda name: [70], ("left",))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: LWM(LWMConfig.tiny(**TEXTS), SMALL, Bounded(-1, 1, (2,))), "one choice"),
        (lambda: LWM(LWMConfig.tiny(), UNEVEN, OneHot(2)), "power of two"),
        (lambda: LWM(LWMConfig.tiny(**{**TEXTS, "max_frames": 1}), SMALL, OneHot(3)), "two frames"),
        (lambda: LWM(LWMConfig.tiny(**{**TEXTS, "hidden": 12}), SMALL, OneHot(3)), "multiple of 8"),
        (lambda: LWM(LWMConfig.tiny(**{**TEXTS, "text_vocabulary": 7}), SMALL, OneHot(3)), "speaks in 8 words"),
        (lambda: LWM(LWMConfig.tiny(**TEXTS, action_words=(1, 2)), SMALL, OneHot(3)), "need 3 words"),
        (lambda: Words((1, 1), (2, 3, 4), (5, 6)).check(12, 2, 3), "different numbers"),
        (lambda: LWM(IRISConfig.tiny(), SMALL, OneHot(3)), "LWMConfig"),
    ],
)
def test_what_cannot_be_modelled_is_refused(wrong, said):
    with pytest.raises((ValueError, TypeError), match=said):
        wrong()


def test_what_cannot_be_read_is_refused(model):
    with pytest.raises(IndexError):
        model.dynamics.read(torch.tensor([[12]]), torch.zeros(1, 1, dtype=torch.bool))  # a code out of range
    with pytest.raises(ValueError, match="3 frames with their actions; got 4"):
        model.dynamics.compute(torch.zeros(1, 4, K, dtype=torch.int64), torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="unconditional="):
        model.dynamics.generate(torch.tensor([[1]]), 1, guidance=2.0)
