"""The assembled IRIS: dreams token by token, contexts that are rebuilt, time, presets."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded

from tests.support.models import SMALL, WORDS, iris
from wmcomponents import load_official
from wmcomponents.dream import ReplayStarts, Simulator, last_states
from wmcomponents.models import IRIS, IRISConfig, presets
from wmcomponents.pretrained import BadModelError
from wmcomponents.testing import check_world_model


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return iris(IRISConfig.tiny(**WORDS), SMALL, OneHot(3)).eval()


def begun(model, rows, seed=0):
    """States after one real frame."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (rows, 16, 16, 3), generator=generator, dtype=torch.uint8)
    state, init = model.initial_state((rows,)), torch.ones(rows, 1, dtype=torch.bool)
    return model.observe(state, model.null_action((rows,)), {"pixels": pixels}, init, None)


def acts(rows, steps, seed=0):
    number = torch.randint(3, (steps, rows), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.one_hot(number, 3)


def noises(model, rows, steps, seed=0):
    drawn = model.noise_source("imagine")((steps, rows), torch.Generator().manual_seed(seed))
    return [{key: value[t] for key, value in drawn.items()} for t in range(steps)]


def picked(logits, u):
    """The sheet's categorical draw; the most likely where no number is given."""
    if u is None:
        return int(logits.argmax())
    return min(int((logits.softmax(-1).cumsum(-1) <= u).sum()), logits.shape[-1] - 1)


@torch.no_grad()
def read_anew(model, tokens, action, context, noise):
    """One row's dream step without any memory: the whole sequence is read again for every token.

    Returns the tokens, the class of the reward, the probability of going on, and the context that follows.
    """
    part = model.dynamics
    words = part.frame_tokens
    if len(context) + words + 1 > part.max_positions:
        context = list(tokens)
    context = [*context, int(action)]
    said = part.read(torch.tensor([context]))
    u = None if noise is None else noise["reward"][0]
    reward = picked(said.reward[0, -1], u) - 1
    cont = float(said.terminated[0, -1].softmax(-1)[0])
    frame = []
    for k in range(words):
        said = part.read(torch.tensor([context + frame]))
        frame.append(picked(said.tokens[0, -1], None if noise is None else noise["tokens"][k]))
    return frame, reward, cont, context + frame


@pytest.mark.parametrize("sampled", [True, False])
def test_a_dream_from_memory_is_the_dream_that_reads_everything_anew(model, sampled):
    rows, steps = 2, 7  # the context holds three frames: it is rebuilt more than once
    state, actions, noise = begun(model, rows), acts(rows, steps), noises(model, rows, steps)
    tokens = state["tokens"].tolist()
    contexts, rebuilt = [list(row) for row in tokens], 0
    for t in range(steps):
        given = noise[t] if sampled else None
        state, reward, cont = model.imagine(state, actions[t], given)
        for row in range(rows):
            one = None if given is None else {key: value[row] for key, value in given.items()}
            known = len(contexts[row])
            tokens[row], paid, goes_on, contexts[row] = read_anew(
                model, tokens[row], actions[t, row].argmax(), contexts[row], one
            )
            rebuilt += len(contexts[row]) < known
            assert state["tokens"][row].tolist() == tokens[row]
            assert reward[row].item() == paid and abs(cont[row].item() - goes_on) < 1e-4
            assert state["length"][row].item() == len(contexts[row])
    assert rebuilt >= 2


def test_rows_of_different_ages_rebuild_their_contexts_by_themselves(model):
    old = begun(model, 1, seed=1)
    for action in acts(1, 1):
        old = model.imagine(old, action, None).state
    young = begun(model, 1, seed=2)
    both = {key: torch.cat([old[key], young[key]]) for key in old}
    for t, action in enumerate(acts(1, 4, seed=3)):
        noise = noises(model, 1, 1, seed=t)[0]
        twice = {key: torch.cat([value, value]) for key, value in noise.items()}
        both = model.imagine(both, torch.cat([action, action]), twice).state
        old, young = model.imagine(old, action, noise).state, model.imagine(young, action, noise).state
        assert torch.equal(both["tokens"], torch.cat([old["tokens"], young["tokens"]]))
        assert torch.equal(both["length"], torch.cat([old["length"], young["length"]]))
        assert old["length"] != young["length"]


def test_an_accelerators_way_which_looks_at_no_number_is_the_cpus_way(model, monkeypatch):
    state, actions, noise = begun(model, 3), acts(3, 6), noises(model, 3, 6)
    state["length"][1] = 0
    looked, unlooked = state, {key: value.clone() for key, value in state.items()}
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
    state, action = begun(model, 4), acts(4, 1)[0]
    one, other = noises(model, 4, 2)
    other = {**other, "reward": one["reward"]}
    a, b = model.imagine(state, action, one), model.imagine(state, action, other)
    assert not torch.equal(a.state["tokens"], b.state["tokens"])
    assert torch.equal(a.reward, b.reward) and torch.equal(a.cont, b.cont)
    assert torch.equal(a.state["hidden"], b.state["hidden"])


def test_rewards_are_signs_drawn_from_the_noise(model):
    state, action, noise = begun(model, 1), acts(1, 1)[0], noises(model, 1, 1)[0]
    drawn = {
        float(model.imagine(state, action, {**noise, "reward": torch.full((1, 1), u)}).reward)
        for u in (0.0, 0.5, 0.9999)
    }
    assert drawn <= {-1.0, 0.0, 1.0} and -1.0 in drawn and len(drawn) > 1


def test_observing_the_frame_that_was_dreamt_is_dreaming_it(model):
    state, action = begun(model, 2), acts(2, 1)[0]
    dreamt = model.imagine(state, action, noises(model, 2, 1)[0]).state
    real = model._filtered(
        {key: value.clone() for key, value in state.items()},
        action,
        {"tokens": dreamt["tokens"]},
        torch.zeros(2, 1, dtype=torch.bool),
    )
    for key, value in dreamt.items():
        torch.testing.assert_close(real[key], value, rtol=1e-4, atol=1e-5)


def test_a_filter_rebuilds_its_context_as_a_dream_does(model):
    rows, steps = 2, 7
    state, actions = begun(model, rows), acts(rows, steps)
    pixels = torch.randint(256, (rows, steps, 16, 16, 3), dtype=torch.uint8)
    lengths = []
    for t in range(steps):
        before = state["tokens"]
        state = model.observe(state, actions[t], {"pixels": pixels[:, t]}, torch.zeros(rows, 1, dtype=torch.bool), None)
        lengths.append(state["length"][0].item())
    assert lengths == [9, 14, 9, 14, 9, 14, 9]
    alone = torch.cat([before, actions[-1].argmax(-1, keepdim=True), state["tokens"]], 1)
    hidden = model.dynamics.read(alone).hidden[:, 4]
    torch.testing.assert_close(state["hidden"], hidden, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_last", [True, False])
def test_sequences_may_begin_episodes_inside(model, is_last):
    torch.manual_seed(0)
    pixels, actions = torch.randint(256, (2, 6, 16, 16, 3), dtype=torch.uint8), acts(6, 2).long()
    init = torch.zeros(2, 6, 1, dtype=torch.bool)
    init[:, 0] = init[0, 3] = True
    start = model.initial_state((2,))
    state = start
    for t in range(6):
        state = model.observe(state, actions[:, t], {"pixels": pixels[:, t]}, init[:, t], None)
    if is_last:
        whole = model.observe_last(start, actions, {"pixels": pixels}, init, None)
    else:
        whole = {k: v[:, -1] for k, v in model.observe_sequence(start, actions, {"pixels": pixels}, init, None).items()}
    for key, value in state.items():
        torch.testing.assert_close(whole[key], value, rtol=1e-4, atol=1e-5)
    assert not start["kv_cache"].any()


def test_actions_count_as_torchrl_counts_them(model):
    """The paper's block t holds x_t and a_t; here the action that led to x_{t+1} is given with x_{t+1}."""
    pixels, actions = torch.randint(256, (1, 2, 16, 16, 3), dtype=torch.uint8), acts(1, 2)
    first = model.observe(
        model.initial_state((1,)), actions[0], {"pixels": pixels[:, 0]}, torch.ones(1, 1, dtype=torch.bool), None
    )
    second = model.observe(first, actions[1], {"pixels": pixels[:, 1]}, torch.zeros(1, 1, dtype=torch.bool), None)
    block = torch.cat([first["tokens"], actions[1].argmax(-1, keepdim=True)], 1)
    torch.testing.assert_close(second["hidden"], model.dynamics.read(block).hidden[:, -1], rtol=1e-4, atol=1e-5)
    assert not first["hidden"].any()


@pytest.mark.slow
def test_the_block_causal_model_keeps_the_protocol():
    torch.manual_seed(0)
    model = iris(IRISConfig.tiny(**WORDS, causality="block_causal"), SMALL, Categorical(2))
    assert "inplace/as-pure" in check_world_model(model, batch_sizes=((2,),)).held


def test_a_dream_from_real_prefixes_ends_where_the_horizon_says(model):
    from tests.support.drive import sequences

    starts = ReplayStarts(model, lambda: sequences(model), pool_size=4)
    simulator = Simulator(model, starts, batch_size=4, horizon=3, termination="off")
    shown = simulator.reset()["pixels"]
    assert torch.equal(shown, model.tokenizer.pixels(simulator.state["tokens"]))
    steps = [simulator.step(acts(4, 1)[0]) for _ in range(3)]
    assert steps[-1].truncated.all() and steps[0].observation["pixels"].dtype is torch.uint8


def test_features_are_what_the_decoder_reads_and_what_the_past_says(model):
    state = begun(model, 2)
    features = model.features(state)
    assert features.shape == (2, 4 * 8 + 16)
    codes = model.tokenizer.quantizer.lookup(state["tokens"])
    torch.testing.assert_close(features, torch.cat([codes.flatten(1), state["hidden"]], 1))


def test_presets_have_the_paper_s_parameter_counts():
    image = Composite(pixels=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8))
    model = IRIS(IRISConfig.atari(), image, OneHot(4))
    count = [sum(p.numel() for p in part.parameters()) for part in (model.tokenizer, model.dynamics)]
    assert count == [4_027_523, 8_447_493]
    assert model.dynamics.max_positions == 340 and model.state_bytes() == 6_963_200 + 16 * 8 + 8 + 256 * 4
    assert presets("IRIS") == ("tiny", "pong", "atari")
    IRIS(IRISConfig.pong(), image, OneHot(6))
    for side in (16, 32):
        IRIS(IRISConfig.tiny(), Composite(seen=Bounded(0, 255, (side, side, 3), dtype=torch.uint8)), Categorical(3))


@settings(deadline=None, max_examples=10)
@given(st.sampled_from([16, 32]), st.sampled_from([2, 4, 8]))
def test_any_side_that_halves_to_the_grid_is_seen_and_shown(side, grid):
    spec = Composite(pixels=Bounded(0, 255, (side, side, 3), dtype=torch.uint8))
    model = IRIS(IRISConfig.tiny(**{**WORDS, "grid": grid}), spec, OneHot(2))
    tokens = model.tokenizer.tokens(spec["pixels"].rand((2,)))
    assert tokens.shape == (2, grid * grid) and model.tokenizer.pixels(tokens).shape == (2, side, side, 3)


def test_what_cannot_be_modelled_is_refused():
    for shown in (
        Composite(observation=Unbounded(3)),
        Composite(pixels=Bounded(0, 255, (16, 24, 3), dtype=torch.uint8)),
        Composite(**dict.fromkeys("ab", SMALL["pixels"])),
    ):
        with pytest.raises(ValueError, match="one square uint8 image"):
            IRIS(IRISConfig.tiny(), shown, OneHot(2))
    with pytest.raises(ValueError, match="power of two"):
        IRIS(IRISConfig.tiny(), Composite(pixels=Bounded(0, 255, (36, 36, 3), dtype=torch.uint8)), OneHot(2))
    with pytest.raises(ValueError, match="one choice"):
        IRIS(IRISConfig.tiny(), SMALL, Bounded(-1, 1, (2,)))
    with pytest.raises(ValueError, match="at least two frames"):
        IRIS(IRISConfig.tiny(max_frames=1), SMALL, OneHot(2))
    with pytest.raises(ValueError, match="32 groups"):
        IRIS(IRISConfig.tiny(channels=24), SMALL, OneHot(2))


def test_a_checkpoint_with_a_key_too_many_or_too_few_is_refused(tmp_path):
    with pytest.raises(BadModelError, match="it is no IRIS"):
        IRIS.from_official({"tokenizer.encoder.conv_in.weight": torch.zeros(2)})
    path = tmp_path / "last.pt"
    torch.save({"world_model.pos_emb.weight": torch.zeros(340, 256)}, path)
    with pytest.raises(BadModelError, match="iris"):
        load_official("iris", path)


def test_a_codebook_begins_with_real_frames_once_and_only_where_it_should():
    from tests.support.drive import sequences

    torch.manual_seed(0)
    model = IRIS(IRISConfig.tiny(**WORDS), SMALL, OneHot(3))
    data, before = sequences(model), model.tokenizer.quantizer.embedding.weight.clone()
    model.prepare(data)
    begun = model.tokenizer.quantizer.embedding.weight.clone()
    assert not torch.equal(begun, before) and bool(model.state_dict()["fitted"])
    assert len(model.tokenizer.tokens(data["pixels"]).unique()) == 16  # every code is somebody's
    model.prepare(sequences(model, seed=1))
    assert torch.equal(model.tokenizer.quantizer.embedding.weight, begun)
    paper = IRIS(IRISConfig.tiny(**WORDS, codes_from_data=False), SMALL, OneHot(3))
    before = paper.tokenizer.quantizer.embedding.weight.clone()
    paper.prepare(data)
    assert torch.equal(paper.tokenizer.quantizer.embedding.weight, before) and "fitted" not in paper.state_dict()


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        IRISConfig.tiny().network.transformer.dim = 3


def test_a_prefix_of_frames_is_read_with_the_actions_between_them_and_no_others(model):
    frames = 3
    generator = torch.Generator().manual_seed(0)
    data = TensorDict(
        {
            "pixels": torch.randint(0, 256, (2, frames, 16, 16, 3), generator=generator, dtype=torch.uint8),
            "action": torch.nn.functional.one_hot(torch.arange(frames), 3).expand(2, -1, -1),
            "is_init": torch.zeros(2, frames, 1, dtype=torch.bool),  # from the middle of an episode
        },
        (2, frames),
    )
    state = last_states(model, data)
    assert state["length"].tolist() == [[frames * model.tokenizer.length + frames - 1]] * 2
