"""The assembled STORM: what its transformer has read, contexts that begin anew, what is learned from."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded

from tests.support.models import MIXED_TOKENS, SMALL, VECTOR
from wmcomponents.dream import last_states
from wmcomponents.dynamics import CategoricalLatent, StateActionTransformer
from wmcomponents.dynamics.tokens.state_action_transformer import contexts
from wmcomponents.models import STORM, STORMConfig, STORMLoss, STORMLossConfig, STORMOptimizerConfig, presets

POSITIONS, KEPT = 4, 2


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return STORM(STORMConfig.tiny(**MIXED_TOKENS), VECTOR, OneHot(3)).eval()


def sequences(rows=2, steps=7, seed=0):
    """Random sequences ``[rows, steps]`` in TorchRL's layout; the first row ends its episode behind step 2."""
    generator = torch.Generator().manual_seed(seed)
    seen = torch.randn(rows, steps + 1, 3, generator=generator)
    chosen = torch.randint(3, (rows, steps), generator=generator)
    ends, begins = torch.zeros(2, rows, steps, 1, dtype=torch.bool)
    ends[0, 2:3], begins[0, 3:4] = True, True
    reward = torch.randn(rows, steps, 1, generator=generator)
    after = {"observation": seen[:, 1:].clone(), "reward": reward, "terminated": ends, "done": ends.clone()}
    now = {"observation": seen[:, :-1].clone(), "action": torch.nn.functional.one_hot(chosen, 3), "is_init": begins}
    return TensorDict({**now, "next": TensorDict(after, [rows, steps])}, [rows, steps])


def noises(model, steps, rows, seed=0):
    drawn = model.noise_source("imagine")((steps, rows), torch.Generator().manual_seed(seed))
    return [{key: value[t] for key, value in drawn.items()} for t in range(steps)]


def acts(steps, rows, seed=0):
    chosen = torch.randint(3, (steps, rows), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.one_hot(chosen, 3)


@torch.no_grad()
def test_a_dream_from_memory_is_the_dream_that_reads_its_window_anew(model):
    state = last_states(model, sequences(rows=2, steps=1))
    window, length, again = [[], []], [0, 0], 0
    for t, (action, noise) in enumerate(zip(acts(9, 2), noises(model, 9, 2), strict=True)):
        before, state = state, model.imagine(state, action, noise).state
        for row in range(2):
            entry = before["stoch"][row], model.action_vector(action)[row]
            if len(window[row]) == POSITIONS:
                window[row], again = window[row][-KEPT:], again + 1
            window[row].append(entry)
            stoch, vector = (torch.stack(part).unsqueeze(0) for part in zip(*window[row], strict=True))
            hidden = model.dynamics.compute(stoch, vector)[0, -1]
            torch.testing.assert_close(state["hidden"][row], hidden, rtol=1e-4, atol=1e-5)
            length[row] = len(window[row])
        assert state["length"].squeeze(-1).tolist() == length, t
    assert again == 2 * 3


@torch.no_grad()
def test_an_accelerators_way_which_looks_at_no_number_is_the_cpus_way(model, monkeypatch):
    looked = last_states(model, sequences(rows=3, steps=4))
    looked["length"][1] = 2
    unlooked = {key: value.clone() for key, value in looked.items()}
    for action, noise in zip(acts(6, 3), noises(model, 6, 3), strict=True):
        looked = model.imagine(looked, action, noise).state
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_compiling", lambda: True)
            unlooked = model.imagine(unlooked, action, noise).state
        assert torch.equal(looked["length"], unlooked["length"]) and torch.equal(looked["stoch"], unlooked["stoch"])
        torch.testing.assert_close(looked["hidden"], unlooked["hidden"], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_what_is_learned_from_is_what_the_filter_gives_while_a_context_lasts(model):
    td = sequences(steps=4)
    loss = STORMLoss(model)
    arrivals = loss.arrivals(td)
    begins = arrivals.is_init.clone()
    begins[:, 0] = True
    noise = loss.draw(arrivals)
    start = model.initial_state((2,))
    states = model.observe_sequence(start, arrivals.action, arrivals.observation, begins, noise)
    before = torch.cat([torch.zeros_like(states["stoch"][:, :1]), states["stoch"][:, :-1]], 1)
    tokens = model.dynamics.mix(before, model.action_vector(arrivals.action))
    hidden = model.dynamics.outputs(tokens, begins.squeeze(-1))
    torch.testing.assert_close(states["hidden"], hidden, rtol=1e-4, atol=1e-5)
    prior = model.dynamics.prior(hidden)
    kl = model.dynamics.latent.kl(model.encode(arrivals.observation), prior)
    torch.testing.assert_close(loss.terms(arrivals, noise).info["kl"], kl)


def test_positions_and_sight_begin_anew_with_an_episode_and_where_all_are_used():
    begins = torch.tensor([[True, False, False, False, False, True, False]])
    position, seen = contexts(begins, positions=3)
    assert position.tolist() == [[0, 0, 1, 2, 0, 0, 0]]
    rows = ["1......", ".1.....", ".11....", ".111...", "....1..", ".....1.", "......1"]
    assert ["".join("1" if one else "." for one in row) for row in seen[0].tolist()] == rows


def grads(value, model):
    return torch.autograd.grad(value, list(model.parameters()), allow_unused=True)


def test_each_divergence_is_clipped_as_the_mean_of_the_batch(model):
    td = sequences()
    terms = STORMLoss(model).elements(td)
    weight, kl = terms.weight["kl"], terms.info["kl"]
    mean = float((kl * weight).sum() / weight.sum())
    out = STORMLoss(model, STORMLossConfig(free_nats=2 * mean))(td)
    assert float(out["loss_dyn"].detach()) == pytest.approx(0.5 * 2 * mean)
    total = out["loss_dyn"] + out["loss_rep"]
    assert not total.requires_grad or all(g is None or not g.any() for g in grads(total, model))
    out = STORMLoss(model, STORMLossConfig(free_nats=0.5 * mean))(td)
    for name, scale in (("dyn", 0.5), ("rep", 0.1)):
        assert float(out[f"loss_{name}"].detach()) == pytest.approx(scale * float(out["kl"]), rel=1e-5)


def test_nothing_is_foretold_where_an_episode_begins(model):
    td = sequences()
    weight = STORMLoss(model).elements(td).weight
    # Eight arrivals a row: the first of a sequence, and in the first row the one behind the end.
    assert weight["reconstruction"].sum() == 16
    for name in ("reward", "continue", "dyn", "rep", "kl"):
        assert weight[name].sum() == 13, name


def test_padding_reaches_no_loss(model):
    td = sequences()
    td["collector", "mask"] = torch.ones(2, 7, dtype=torch.bool)
    td["collector", "mask"][1, 4:] = False
    clean = STORMLoss(model)(td)
    for key in ("observation", ("next", "observation"), ("next", "reward")):
        td[key][1, 4:] = float("nan")
    spoilt = STORMLoss(model)(td)
    assert all(torch.equal(value, spoilt[key]) and bool(value.isfinite()) for key, value in clean.items())


def test_every_weight_is_learned_and_a_few_steps_lower_the_loss():
    torch.manual_seed(0)
    model = STORM(STORMConfig.tiny(**MIXED_TOKENS, depth=2, mults=(1, 1)), SMALL, Categorical(3))
    td = sequences()
    pixels = torch.randint(256, (2, 8, 16, 16, 3), dtype=torch.uint8)
    td["pixels"], td["next", "pixels"] = pixels[:, :-1].clone(), pixels[:, 1:].clone()
    td["action"] = td["action"].argmax(-1)
    loss, totals = model.objective(), []
    optimizer = loss.make_optimizer(lr=1e-2, warmup=0)
    for _ in range(6):
        out = loss(td)
        total = sum(value for key, value in out.items() if key.startswith("loss_"))
        optimizer.zero_grad()
        total.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in loss.parameters())
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.9 * totals[0]


def test_the_optimiser_is_the_papers(model):
    optimizer = STORMLoss(model, optimizer=STORMOptimizerConfig()).make_optimizer()
    assert (optimizer.param_groups[0]["lr"], optimizer.max_norm, optimizer.defaults["eps"]) == (1e-4, 1000.0, 1e-8)


def test_the_papers_model_for_atari_has_as_many_weights_as_its_card_says():
    screen = Composite(pixels=Bounded(0, 255, (64, 64, 3), dtype=torch.uint8))
    with torch.device("meta"):
        model = STORM(STORMConfig.atari(), screen, OneHot(4))
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert sum(counts.values()) == 16_505_987
    assert (counts["encoder"] + counts["posterior"], counts["decoder"], counts["dynamics"]) == (
        4_885_952, 4_884_931, 5_551_104,
    )  # fmt: skip
    assert presets("STORM") == ("tiny", "atari")
    assert model.state_bytes() == 4 * (1024 + 512 + 2 * 2 * 64 * 512 + 16 * 512) + 8


def test_what_cannot_be_is_refused(model):
    with pytest.raises(ValueError, match="kept=4 of positions=4"):
        StateActionTransformer(CategoricalLatent(2, 2), 2, heads=2, dim=8, positions=4, kept=4)
    with pytest.raises(ValueError, match="the context holds 4 tokens, one a step; got 5"):
        model.dynamics.compute(torch.zeros(1, 5, 4, 4), torch.zeros(1, 5, 3))
    with pytest.raises(ValueError, match="divisible by 16"):
        STORM(
            STORMConfig.atari(dim=16, heads=2),
            Composite(pixels=Bounded(0, 255, (20, 20, 3), dtype=torch.uint8)),
            OneHot(2),
        )
    with pytest.raises(TypeError, match="use the loss that its own objective"):
        STORMLoss(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="vectors must be one of"):
        STORM(STORMConfig.tiny(vectors="none"), Composite(observation=Unbounded(2)), OneHot(2))
