"""The assembled Delta-IRIS: dreams step by step, contexts that begin anew, time, presets."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded

from tests.support.models import CHANGES, SMALL, delta_iris
from wmcomponents import load_official
from wmcomponents.dream import ReplayStarts, Simulator
from wmcomponents.functional import symexp
from wmcomponents.models import DeltaIRIS, DeltaIRISConfig, presets
from wmcomponents.pretrained import BadModelError
from wmcomponents.testing import check_world_model

BLOCKS, BLOCK = 4, 6


def built(**changes):
    torch.manual_seed(0)
    return delta_iris(DeltaIRISConfig.tiny(**{**CHANGES, **changes}), SMALL, OneHot(3)).eval()


@pytest.fixture(scope="module")
def model():
    return built()


@pytest.fixture(scope="module", params=["sign", "two_hot"])
def either(request):
    return built(rewards=request.param)


def images(*lead, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (*lead, 16, 16, 3), generator=generator, dtype=torch.uint8)


def acts(rows, steps, seed=0):
    number = torch.randint(3, (steps, rows), generator=torch.Generator().manual_seed(seed))
    return F.one_hot(number, 3)


def observed(model, rows, frames, seed=0):
    """States after some real frames of one episode, the frames, and the actions between them."""
    pixels, actions = images(rows, frames, seed=seed), acts(rows, frames, seed=seed).movedim(0, 1)
    init = torch.zeros(rows, frames, 1, dtype=torch.bool)
    init[:, 0] = True
    return model.observe_last(model.initial_state((rows,)), actions, {"pixels": pixels}, init, None), pixels, actions


def noises(model, rows, steps, seed=0):
    drawn = model.noise_source("imagine")((steps, rows), torch.Generator().manual_seed(seed))
    return [{key: value[t] for key, value in drawn.items()} for t in range(steps)]


def picked(logits, u):
    """The sheet's categorical draw; the most likely where no number is given."""
    if u is None:
        return int(logits.argmax())
    return min(int((logits.softmax(-1).cumsum(-1) <= u).sum()), logits.shape[-1] - 1)


class AuthorsDream:
    """The paper's environment for one row, step by step, without memory: what would be in the cache is read anew.

    It holds the entries (frames, actions, tokens) that the authors' cache holds, the last token that it does not hold
    yet, and the frame that it does not hold yet.
    """

    def __init__(self, model, pixels, actions):
        """Begin with T real frames ``[T, H, W, C]`` and the T - 1 actions between them."""
        self.model, part = model, model.dynamics
        tokens = model.tokenizer.tokens(pixels[:-1], actions, pixels[1:])
        self.entries, vectors = [], part.frame_vector(pixels)
        for t in range(len(actions)):
            self.entries += [vectors[t], part.action_embedding.weight[actions[t]], *part.token_embedding(tokens[t])]
        self.entries.append(vectors[-1])
        self.frame, self.last, self.pending = pixels[-1], None, None
        self.resets = 0

    @property
    def blocks_left(self):
        return (self.model.dynamics.max_positions - len(self.entries)) / self.model.dynamics.block

    def outputs(self, *entries):
        self.entries += entries
        return self.model.dynamics.outputs(torch.stack(self.entries).unsqueeze(0))[0, -1]

    @torch.no_grad()
    def step(self, action, noise):
        part, tokenizer = self.model.dynamics, self.model.tokenizer
        if self.blocks_left <= 1:
            self.entries, self.last, self.resets = [], None, self.resets + 1
            self.pending = part.frame_vector(self.frame.unsqueeze(0))[0]
        left = [] if self.last is None else [self.last]
        left += [] if self.pending is None else [self.pending]
        hidden = self.outputs(*left, part.action_embedding.weight[action])
        logits = part.reward_head(hidden)
        if self.model.config.network.transformer.rewards == "sign":
            reward = picked(logits, None if noise is None else noise["reward"][0]) - 1
        else:
            reward = float(symexp((logits.softmax(-1) * torch.linspace(-20, 20, 255)).sum()))
        cont = float(part.terminated_head(hidden).softmax(-1)[0])
        tokens = [picked(part.token_head(hidden), None if noise is None else noise["tokens"][0])]
        for k in range(1, part.tokens):
            hidden = self.outputs(part.token_embedding.weight[tokens[-1]])
            tokens.append(picked(part.token_head(hidden), None if noise is None else noise["tokens"][k]))
        self.last = part.token_embedding.weight[tokens[-1]]
        x, act = self.frame.movedim(-1, 0).unsqueeze(0) / 255, torch.tensor([action])
        y = tokenizer.decode(x, act, tokenizer.quantizer.codebook[torch.tensor([tokens])])
        self.frame = y[0].clamp(0, 1).mul(255).round().to(torch.uint8).movedim(0, -1)
        self.pending = part.frame_vector(self.frame.unsqueeze(0))[0]
        return tokens, reward, cont


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("prefix", [1, 2])
def test_a_dream_is_the_authors_step_by_step_across_contexts_that_begin_anew(either, sampled, prefix):
    model, rows, steps = either, 2, 10
    state, pixels, led = observed(model, rows, prefix)
    actions, noise = acts(rows, steps, seed=1), noises(model, rows, steps)
    theirs = [AuthorsDream(model, pixels[row], led[row, 1:].argmax(-1)) for row in range(rows)]
    for t in range(steps):
        state, reward, cont = model.imagine(state, actions[t], noise[t] if sampled else None)
        for row, dream in enumerate(theirs):
            one = {key: value[row] for key, value in noise[t].items()} if sampled else None
            tokens, paid, goes_on = dream.step(int(actions[t, row].argmax()), one)
            assert state["tokens"][row].tolist() == tokens
            assert abs(reward[row].item() - paid) < 1e-4 * max(1, abs(paid)) and abs(cont[row].item() - goes_on) < 1e-4
            assert state["length"][row].item() == len(dream.entries)
            apart = (state["frame"][row].int() - dream.frame.int()).abs()
            assert apart.max() <= 1 and (apart > 0).float().mean() < 0.01  # on the boundary between two bytes
            dream.frame = state["frame"][row]
            dream.pending = model.dynamics.frame_vector(dream.frame.unsqueeze(0))[0]
    assert all(dream.resets >= 2 for dream in theirs)


def test_a_dream_given_away_is_the_pure_one_and_the_pure_one_leaves_its_state_alone(model):
    state, _, _ = observed(model, 3, 2)
    given = {key: value.clone() for key, value in state.items()}
    actions, noise = acts(3, 6, seed=2), noises(model, 3, 6)
    for t in range(6):
        before = {key: value.clone() for key, value in state.items()}
        pure, inplace = model.imagine(state, actions[t], noise[t]), model.imagine_inplace(given, actions[t], noise[t])
        for key, value in before.items():
            assert torch.equal(state[key], value)
            assert torch.equal(pure.state[key], inplace.state[key])
        assert torch.equal(pure.reward, inplace.reward) and torch.equal(pure.cont, inplace.cont)
        state, given = pure.state, inplace.state


def test_a_fork_leaves_its_parent_untouched(model):
    from tests.support.drive import sequences

    def simulator():
        starts = ReplayStarts(model, lambda: sequences(model), pool_size=4)
        return Simulator(model, starts, batch_size=2, horizon=9, termination="off", seed=0)

    alone, parent = simulator(), simulator()
    alone.reset(), parent.reset()
    for t, action in enumerate(acts(2, 6)):
        one, other = alone.step(action), parent.step(action)
        assert torch.equal(one.observation["pixels"], other.observation["pixels"])
        child = parent.fork()
        for further in acts(2, 2, seed=t + 1):
            child.step(further)


def test_rows_of_different_ages_begin_their_contexts_anew_by_themselves(model):
    old, young = observed(model, 1, 3, seed=1)[0], observed(model, 1, 1, seed=2)[0]
    both, lengths = {key: torch.cat([old[key], young[key]]) for key in old}, []
    for t, action in enumerate(acts(1, 5, seed=3)):
        noise = noises(model, 1, 1, seed=t)[0]
        twice = {key: torch.cat([value, value]) for key, value in noise.items()}
        both = model.imagine(both, torch.cat([action, action]), twice).state
        old, young = model.imagine(old, action, noise).state, model.imagine(young, action, noise).state
        assert torch.equal(both["tokens"], torch.cat([old["tokens"], young["tokens"]]))
        assert torch.equal(both["length"], torch.cat([old["length"], young["length"]]))
        torch.testing.assert_close(both["hidden"], torch.cat([old["hidden"], young["hidden"]]), rtol=1e-4, atol=1e-4)
        lengths.append(both["length"].flatten().tolist())
    assert lengths == [[17, 5], [23, 11], [5, 17], [11, 23], [17, 5]]


def test_an_accelerators_way_which_looks_at_no_number_is_the_cpus_way(model, monkeypatch):
    state, actions, noise = observed(model, 3, 1)[0], acts(3, 6), noises(model, 3, 6)
    older = observed(model, 3, 2)[0]
    looked = {key: torch.cat([value[:2], older[key][2:]]) for key, value in state.items()}
    unlooked = {key: value.clone() for key, value in looked.items()}
    for t in range(6):
        looked = model.imagine(looked, actions[t], noise[t])
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_compiling", lambda: True)
            unlooked = model.imagine(unlooked, actions[t], noise[t])
        assert torch.equal(looked.state["tokens"], unlooked.state["tokens"])
        assert torch.equal(looked.reward, unlooked.reward)
        torch.testing.assert_close(looked.cont, unlooked.cont, rtol=1e-4, atol=1e-5)
        looked, unlooked = looked.state, unlooked.state


def test_reward_and_end_do_not_depend_on_the_frame_that_is_drawn(model):
    state, action = observed(model, 4, 1)[0], acts(4, 1)[0]
    one, other = noises(model, 4, 2)
    a, b = model.imagine(state, action, one), model.imagine(state, action, {**other, "reward": one["reward"]})
    assert not torch.equal(a.state["tokens"], b.state["tokens"])
    assert torch.equal(a.reward, b.reward) and torch.equal(a.cont, b.cont)
    assert torch.equal(a.state["hidden"], b.state["hidden"])


def test_rewards_are_signs_drawn_from_the_noise_or_means_without_any():
    model, free = built(), built(rewards="two_hot")
    state, action, noise = observed(model, 1, 1)[0], acts(1, 1)[0], noises(model, 1, 1)[0]
    drawn = {
        float(model.imagine(state, action, {**noise, "reward": torch.full((1, 1), u)}).reward)
        for u in (0.0, 0.5, 0.9999)
    }
    assert drawn <= {-1.0, 0.0, 1.0} and -1.0 in drawn and len(drawn) > 1
    assert set(free.noise_spec["imagine"].keys()) == {"tokens"}
    assert float(free.imagine(state, action, None).reward) not in (-1.0, 0.0, 1.0)


def test_observing_the_change_that_was_dreamt_is_dreaming_it(model):
    state, action = observed(model, 2, 2)[0], acts(2, 1)[0]
    for t in range(4):
        dreamt = model.imagine(state, action, noises(model, 2, 1, seed=t)[0]).state
        seen = {key: dreamt[key] for key in ("frame", "vector", "tokens")}
        held = {key: value.clone() for key, value in state.items()}
        real = model._filtered(held, action, seen, torch.zeros(2, 1, dtype=torch.bool))
        for key in ("frame", "tokens", "length", "hidden"):
            torch.testing.assert_close(real[key], dreamt[key], rtol=1e-4, atol=1e-4)
        used = int(dreamt["length"][0])
        torch.testing.assert_close(
            real["kv_cache"][..., :used, :], dreamt["kv_cache"][..., :used, :], rtol=1e-4, atol=1e-4
        )
        state = dreamt


def test_a_filter_begins_its_context_anew_as_a_dream_does(model):
    rows, steps = 2, 9
    state, pixels, _ = observed(model, rows, 1)
    shown, lengths, no = images(rows, steps, seed=4), [], torch.zeros(rows, 1, dtype=torch.bool)
    for t, action in enumerate(acts(rows, steps)):
        before = state["vector"]
        state = model.observe(state, action, {"pixels": shown[:, t]}, no, None)
        lengths.append(state["length"][0].item())
    assert lengths == [5, 11, 17, 23, 5, 11, 17, 23, 5]
    number = acts(rows, steps)[-1].argmax(-1, keepdim=True)
    hidden = model.dynamics.read(before.unsqueeze(1), number, state["tokens"].unsqueeze(1)).hidden[:, 1]
    torch.testing.assert_close(state["hidden"], hidden, rtol=1e-4, atol=1e-4)


def test_changes_are_encoded_from_the_frame_before_and_the_action_between(model):
    """The paper's block t holds x_t and a_t; here the action that led to x_{t+1} is given with x_{t+1}."""
    state, pixels, led = observed(model, 2, 2)
    tokens = model.tokenizer.tokens(pixels[:, 0], led[:, 1].argmax(-1), pixels[:, 1])
    assert torch.equal(state["tokens"], tokens) and torch.equal(state["frame"], pixels[:, 1])
    assert torch.equal(model.decode(state)["pixels"], pixels[:, 1])
    vector = model.dynamics.frame_vector(pixels[:, 0]).unsqueeze(1)
    hidden = model.dynamics.read(vector, led[:, 1:].argmax(-1), tokens.unsqueeze(1)).hidden[:, 1]
    torch.testing.assert_close(state["hidden"], hidden, rtol=1e-4, atol=1e-4)
    first = observed(model, 2, 1)[0]
    assert not first["hidden"].any() and not first["kv_cache"].any() and not first["tokens"].any()


@pytest.mark.parametrize("is_last", [True, False])
def test_sequences_may_begin_episodes_inside(model, is_last):
    pixels, actions = images(2, 6), acts(6, 2).long()
    init = torch.zeros(2, 6, 1, dtype=torch.bool)
    init[:, 0] = init[0, 3] = True
    state = start = model.initial_state((2,))
    for t in range(6):
        state = model.observe(state, actions[:, t], {"pixels": pixels[:, t]}, init[:, t], None)
    if is_last:
        whole = model.observe_last(start, actions, {"pixels": pixels}, init, None)
    else:
        whole = {k: v[:, -1] for k, v in model.observe_sequence(start, actions, {"pixels": pixels}, init, None).items()}
    for key, value in state.items():
        torch.testing.assert_close(whole[key], value, rtol=1e-4, atol=1e-4)
    assert not start["kv_cache"].any()


@pytest.mark.slow
def test_the_model_with_means_as_rewards_keeps_the_protocol():
    torch.manual_seed(0)
    model = delta_iris(DeltaIRISConfig.tiny(**CHANGES, rewards="two_hot"), SMALL, Categorical(2))
    assert "inplace/as-pure" in check_world_model(model, batch_sizes=((2,),)).held


def test_features_are_what_the_transformer_sees_and_what_the_past_says(model):
    state = observed(model, 2, 2)[0]
    vector = model.dynamics.frame_vector(state["frame"])
    torch.testing.assert_close(model.features(state), torch.cat([vector, state["hidden"]], 1), rtol=1e-4, atol=1e-5)


def test_presets_have_the_paper_s_sizes():
    image = Composite(pixels=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8))
    with torch.device("meta"):
        atari = DeltaIRIS(DeltaIRISConfig.atari(), image, OneHot(4))
        crafter = DeltaIRIS(DeltaIRISConfig.crafter(), image, OneHot(17))
    count = [sum(p.numel() for p in part.parameters()) for m in (atari, crafter) for part in (m.tokenizer, m.dynamics)]
    assert count == [4_065_715, 3_577_257, 5_409_611, 11_948_457]
    assert (atari.dynamics.max_positions, crafter.dynamics.max_positions) == (156, 126)
    assert (atari.dynamics.dim, crafter.dynamics.dim) == (256, 512)
    assert presets("DeltaIRIS") == ("tiny", "pong", "atari", "crafter")
    with torch.device("meta"):
        DeltaIRIS(DeltaIRISConfig.pong(), image, OneHot(6))
        for side in (16, 32):
            shown = Composite(seen=Bounded(0, 255, (side, side, 3), dtype=torch.uint8))
            DeltaIRIS(DeltaIRISConfig.tiny(), shown, Categorical(3))


@settings(deadline=None, max_examples=10)
@given(st.sampled_from([8, 16]), st.sampled_from([1, 4, 16]), st.sampled_from([1, 3]), st.integers(0, 99))
def test_any_square_of_tokens_tells_a_change(side, tokens, colours, seed):
    torch.manual_seed(seed)
    spec = Composite(pixels=Bounded(0, 255, (side, side, colours), dtype=torch.uint8))
    model = DeltaIRIS(DeltaIRISConfig.tiny(**{**CHANGES, "tokens": tokens}), spec, OneHot(2)).eval()
    first, second = spec["pixels"].rand((2, 2))
    found = model.tokenizer.tokens(first, torch.tensor([0, 1]), second)
    shown = model.tokenizer.pixels(first, torch.tensor([0, 1]), found)
    assert found.shape == (2, tokens) and shown.shape == (2, side, side, colours) and shown.dtype is torch.uint8
    made = model.imagine(model.initial_state((2,)), torch.eye(2), None)
    assert made.state["length"].tolist() == [[tokens + 1]] * 2


def test_what_cannot_be_modelled_is_refused():
    tiny = DeltaIRISConfig.tiny()
    for shown in (
        Composite(observation=Unbounded(3)),
        Composite(pixels=Bounded(0, 255, (16, 24, 3), dtype=torch.uint8)),
        Composite(**dict.fromkeys("ab", SMALL["pixels"])),
    ):
        with pytest.raises(ValueError, match="one square uint8 image"):
            DeltaIRIS(tiny, shown, OneHot(2))
    with pytest.raises(ValueError, match="18x18 does not halve.*resize"):
        DeltaIRIS(tiny, Composite(pixels=Bounded(0, 255, (18, 18, 3), dtype=torch.uint8)), OneHot(2))
    with pytest.raises(ValueError, match="3 tokens"):
        DeltaIRIS(DeltaIRISConfig.tiny(tokens=3), SMALL, OneHot(2))
    with pytest.raises(ValueError, match="one choice"):
        DeltaIRIS(tiny, SMALL, Bounded(-1, 1, (2,)))
    with pytest.raises(ValueError, match="at least two blocks"):
        DeltaIRIS(DeltaIRISConfig.tiny(max_blocks=1), SMALL, OneHot(2))
    with pytest.raises(ValueError, match="32 groups"):
        DeltaIRIS(DeltaIRISConfig.tiny(channels=24), SMALL, OneHot(2))
    with pytest.raises(ValueError, match="one entry for each"):
        DeltaIRIS(DeltaIRISConfig.tiny(mults=(1,)), SMALL, OneHot(2))
    with pytest.raises(ValueError, match="one of 'sign', 'two_hot'"):
        DeltaIRIS(DeltaIRISConfig.tiny(rewards="mean"), SMALL, OneHot(2))


def test_a_checkpoint_with_a_key_too_many_or_too_few_is_refused(tmp_path):
    with pytest.raises(BadModelError, match="it is no Delta-IRIS"):
        DeltaIRIS.from_official({"tokenizer.encoder.encoder.0.weight": torch.zeros(2)})
    path = tmp_path / "last.pt"
    torch.save({"world_model.act_emb.weight": torch.zeros(4, 256)}, path)
    with pytest.raises(BadModelError, match="Delta-IRIS"):
        load_official("delta-iris", path)


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DeltaIRISConfig.tiny().network.transformer.layers = 3
