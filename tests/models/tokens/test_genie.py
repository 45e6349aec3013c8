"""Genie: its window, its codes, its sizes, its losses, and input that cannot be."""

import pytest
import torch
from tensordict import TensorDict
from torch.nn import functional as F
from torchrl.data import Bounded, Composite, OneHot, Unbounded

from tests.support.models import FILM, GENIE, OUTCOMES, SMALL, film_world
from tests.support.small_films import film
from wmcomponents.data.fit import OtherDataError, check_data
from wmcomponents.dream import MappedActions, ReplayStarts, last_states, make_simulator
from wmcomponents.models import Genie, GenieConfig, GenieRedux, GenieReduxConfig, GenieReduxG, GenieReduxGConfig
from wmcomponents.models.loading import load
from wmcomponents.tokenizers.video import film_patches

FORMS = {
    "genie": lambda: Genie(GenieConfig.tiny(**FILM, **GENIE), SMALL),
    "jasmine": lambda: Genie(
        GenieConfig.tiny(**FILM, **GENIE, block="jasmine", joining="prepended", schedule="warming", reveal="random"),
        SMALL,
    ),
    "1xgpt": lambda: Genie(GenieConfig.tiny(**FILM, **GENIE, block="1xgpt"), SMALL),
    "redux": lambda: GenieRedux(GenieReduxConfig.tiny(**FILM, action_code=4, distance_weight=1.0), SMALL),
    "redux-g": lambda: GenieReduxG(
        GenieReduxGConfig.tiny(**FILM, embedding="skipped", distance_weight=1.0), SMALL, OneHot(3)
    ),
}


@pytest.fixture(scope="module", params=FORMS)
def model(request):
    torch.manual_seed(0)
    return film_world(FORMS[request.param]()).eval()


@pytest.fixture(scope="module")
def genie():
    torch.manual_seed(0)
    return film_world(FORMS["genie"]()).eval()


def drawn(model, rows, seed=0):
    return model.noise_source("imagine")((rows,), torch.Generator().manual_seed(seed))


def seen(model, rows, steps, seed=0):
    return last_states(model, film(rows, steps, seed))


@torch.no_grad()
def test_a_dreamt_frame_is_drawn_as_if_the_whole_film_were_read_in_every_round(model):
    """Rows of one, two, and all the frames that the window holds, of which the oldest leaves."""
    for steps in (1, 2, 5):
        state, noise = seen(model, 1, steps), drawn(model, 1)
        action = model.action_spec.rand((1,))
        known = min(steps, model.window - 1)
        tokens = torch.cat(
            [state["tokens"][:, : min(steps, 3)][:, -known:], torch.zeros(1, 1, 4, dtype=torch.int64)], 1
        )
        led = torch.cat([state["led"][:, : min(steps, 3)][:, -known:], model.action_vector(action).unsqueeze(1)], 1)
        masked = torch.zeros_like(tokens, dtype=torch.bool)
        masked[:, -1] = True
        rounds = model.decoding.steps
        for step in range(rounds):
            logits = model.dynamics.compute(tokens, masked, model.action_code(led))[0, -1]
            probs = (logits / (model.decoding.temperature * model.decoding.schedule.heat(step, rounds))).softmax(-1)
            for place in range(4):
                if masked[0, -1, place]:
                    slices = probs[place].cumsum(-1)
                    tokens[0, -1, place] = int((slices[:-1] <= noise["choice"][0, step, place]).sum())
            chosen = probs.gather(-1, tokens[0, -1].unsqueeze(-1)).squeeze(-1)
            sure = noise["order"][0, step] if "order" in noise.keys() else chosen
            sure = sure.masked_fill(~masked[0, -1], 2.0)
            masked[:, -1] = False
            masked[0, -1, sure.argsort()[: model.decoding.schedule.masked(step, rounds, 4)]] = True
        after = model.imagine(state, action, noise).state
        assert torch.equal(after["tokens"][0, known], tokens[0, -1])
        shown = model.tokenizer.pixels(after["tokens"][:, : known + 1])[0, -1]
        assert torch.equal(model.decode(after)["pixels"][0], shown)
        assert int(after["filled"]) == known + 1


CACHED = {
    "genie": lambda **more: Genie(GenieConfig.tiny(**FILM, **GENIE, **more), SMALL),
    "jasmine": lambda **more: Genie(
        GenieConfig.tiny(**FILM, **GENIE, block="jasmine", joining="prepended", **more), SMALL
    ),
    "redux": lambda **more: GenieRedux(GenieReduxConfig.tiny(**FILM, action_code=4, **more), SMALL),
    "redux-g": lambda **more: GenieReduxG(GenieReduxGConfig.tiny(**FILM, **more), SMALL, OneHot(3)),
}


@pytest.mark.parametrize("form", CACHED)
def test_with_a_cache_in_its_state_a_world_dreams_the_same_and_writes_into_no_state_that_is_kept(form):
    torch.manual_seed(0)
    plain = film_world(CACHED[form]()).eval()
    cached = CACHED[form](cached=True).eval()
    cached.load_state_dict(plain.state_dict())
    assert "inplace" in cached.capabilities and "inplace" not in plain.capabilities
    assert cached.state_bytes() > plain.state_bytes()
    reads = []
    cached.dynamics.remember = lambda *given: reads.append(1) or type(cached.dynamics).remember(cached.dynamics, *given)
    one, other = ({key: value.clone() for key, value in seen(model, 2, 1).items()} for model in (plain, cached))
    for step, reads_all in enumerate((False, False, True, True)):  # a window of three frames moves from the third on
        action, noise = plain.action_spec.rand((2,)), drawn(plain, 2, step)
        one = plain.imagine(one, action, noise).state
        kept = {key: value.clone() for key, value in other.items()}
        reads.clear()
        after = cached.imagine(other, action, noise).state
        assert bool(reads) == reads_all
        assert all(torch.equal(kept[key], other[key]) for key in kept)
        given = kept["kv_cache"]
        inplace = cached.imagine_inplace(kept, action, noise).state
        assert inplace["kv_cache"].data_ptr() == given.data_ptr()
        for key in ("tokens", "frames", "filled", "led"):
            assert torch.equal(after[key], one[key]) and torch.equal(inplace[key], one[key])
        other = after
    mixed = {key: torch.cat([seen(cached, 1, 1)[key], other[key]]) for key in other}  # rows of different ages
    bare = {key: mixed[key] for key in one}
    action, noise = plain.action_spec.rand((3,)), drawn(plain, 3)
    assert torch.equal(
        cached.imagine(mixed, action, noise).state["tokens"], plain.imagine(bare, action, noise).state["tokens"]
    )
    alike = {key: value[:1].expand(2, *value.shape[1:]) for key, value in other.items()}  # a view, as of a fork
    action, noise = plain.action_spec.rand((2,)), drawn(plain, 2, 4)
    forked = cached.imagine_inplace(alike, action, noise).state
    truth = cached.imagine(alike, action, noise).state
    assert all(torch.equal(forked[key], truth[key]) for key in truth)
    again = cached.observe(
        other, plain.action_spec.rand((2,)), {"pixels": film(2, 1)["pixels"][:, 0]}, torch.zeros(2, 1).bool(), None
    )
    assert not again["cached"].any() and set(again) == set(cached.state_spec.keys())


def test_tokens_of_the_filter_are_those_of_the_film_up_to_its_frame(model):
    data = film(1, 3)
    state = last_states(model, data)
    assert torch.equal(state["tokens"][0], model.tokenizer.tokens(data["pixels"])[0])
    assert torch.equal(model.decode(state)["pixels"], data["pixels"][:, -1])
    led = model.action_vector(model.relabelled(data)["action"])
    assert torch.equal(state["led"][0], torch.cat([torch.zeros_like(led[0, :1]), led[0, :2]]))


def test_codes_lead_to_different_frames_and_stand_in_the_action_spec(genie):
    state = {key: value.expand(3, *value.shape[1:]) for key, value in seen(genie, 1, 2).items()}
    after = genie.imagine(state, torch.eye(3, dtype=torch.bool), None).state
    logits = genie.dynamics.compute(
        after["tokens"], torch.ones_like(after["tokens"], dtype=torch.bool), after["led"] @ torch.randn(3, 4)
    )
    assert genie.action_spec == OneHot(3) and not torch.equal(logits[0], logits[1])


def test_a_real_environments_actions_are_not_looked_at_and_its_films_are_told_in_codes(genie):
    five = film(action=torch.zeros(2, 7, 5))
    check_data(genie, five)
    told = genie.relabelled(five)
    pairs = torch.stack([five["pixels"], five["next", "pixels"]], 2).flatten(0, 1)
    codes = genie.infer_codes(pairs).view(2, 7)
    assert torch.equal(told["action"].long().argmax(-1), codes) and genie.relabelled(told) is told
    alone = five.exclude(("next", "pixels"))
    assert torch.equal(genie.relabelled(alone)["action"][:, :-1].long().argmax(-1)[0], codes[0, :-1])
    starts = ReplayStarts(genie, lambda: five, pool_size=2, seed=0)
    simulator = make_simulator(
        genie, starts, batch_size=2, termination="off", reward=lambda s, a, after: s["filled"].float(), seed=0
    )
    simulator.reset()
    assert simulator.step(genie.action_spec.rand((2,))).reward.shape == (2, 1)
    with pytest.raises(OtherDataError, match="'pixels'"):
        check_data(genie, TensorDict({"pixels": five["pixels"].float()}, [2, 7]))


@pytest.mark.parametrize("name", FORMS)
def test_each_stage_moves_its_own_parts_and_no_others(name):
    torch.manual_seed(0)
    objective = FORMS[name]().objective()
    for stage in objective.stages:
        objective.stage = stage
        objective.zero_grad()
        out = objective(film())
        assert set(out.keys()) == set(objective.out_keys)
        sum(out[key] for key in out.keys() if key.startswith("loss_")).backward()
        moved = {
            key.split(".")[0]
            for key, p in objective.world_model_params.flatten_keys(".").items()
            if p.requires_grad and p.grad is not None and bool(p.grad.abs().sum() > 0)
        }
        latent = {"action_model"} if "g" not in name.split("-") else set()
        assert moved == ({"tokenizer"} if stage == "tokenizer" else {"dynamics"} | latent)


def test_the_tokenizers_loss_by_hand_up_to_the_end_of_the_episode(genie):
    data, torch_model = film(), FORMS["genie"]
    model = torch_model()
    objective = model.objective()
    films = objective.films(data)
    # eight arrivals, two films of three frames a row; the second row's episode ends with its sixth frame
    assert films.weight.tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]]
    early = film()
    early["is_init"][1] = early["next", "done"][1] = False
    early["is_init"][1, 0] = early["is_init"][1, 2] = early["next", "done"][1, 1] = True
    early["next", "terminated"] = early["next", "done"]
    # its third frame is the last of the episode, and the next one begins: with what came of the last step, x_0 x_1 x_2'
    assert objective.films(early).weight.tolist() == [[1, 1, 1]] * 4
    late = film()
    late["is_init"][1] = late["next", "done"][1] = False
    late["is_init"][1, 0] = late["is_init"][1, 1] = late["next", "done"][1, 0] = True
    late["next", "terminated"] = late["next", "done"]
    assert objective.films(late).weight.tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1]]
    objective.set_keys()
    out = objective(late)
    weight = torch.tensor([[1.0, 1, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1]])
    patches = film_patches(objective.films(late).pixels, 8)
    with objective.world_model_params.to_module(objective.world_model), torch.no_grad():
        made = model.tokenizer.tokenize(patches)
        error = (model.tokenizer.decode(made.codes) - patches).square().mean((2, 3))
    torch.testing.assert_close(out["loss_squared"].detach(), (error * weight).sum() / weight.sum())


def test_only_masked_tokens_of_frames_behind_the_first_count(genie):
    model = FORMS["redux-g"]()
    objective = model.objective()
    objective.stage = "dynamics"
    objective.generator.manual_seed(3)
    terms_out = objective(film())
    generator = torch.Generator().manual_seed(3)
    rate, noise = 0.5 + 0.5 * torch.rand(4, generator=generator), torch.rand(4, 3, 4, generator=generator)
    masked = noise < rate.view(-1, 1, 1)
    masked[:, 0] = False
    films = objective.films(film())
    with objective.world_model_params.to_module(objective.world_model), torch.no_grad():
        tokens = model.tokenizer.tokens(films.pixels)
        action = F.pad(model.action_vector(films.action[:, 1:]), (0, 0, 1, 0))
        logits = model.dynamics.compute(tokens, masked, action)
        codes = F.normalize(model.tokenizer.quantizer.codebook, dim=-1)
        cross = F.cross_entropy(logits[masked], tokens[masked])
        apart = ((1 - codes[tokens[masked]] @ codes.T) * logits[masked].softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(terms_out["loss_tokens"].detach(), cross)
    torch.testing.assert_close(terms_out["loss_distance"].detach(), apart)


def rewarding(form):
    """One of the worlds with a model of reward and end."""
    torch.manual_seed(0)
    made = {
        "genie": lambda: Genie(GenieConfig.tiny(**FILM, **GENIE, **OUTCOMES), SMALL),
        "redux": lambda: GenieRedux(GenieReduxConfig.tiny(**FILM, **OUTCOMES, action_code=4), SMALL),
        "redux-g": lambda: GenieReduxG(GenieReduxGConfig.tiny(**FILM, **OUTCOMES), SMALL, OneHot(3)),
    }
    return film_world(made[form]()).eval()


@pytest.mark.parametrize("form", ["genie", "redux", "redux-g"])
@torch.no_grad()
def test_a_world_with_outcomes_pays_and_ends_as_they_say_of_the_newest_frame(form):
    model = rewarding(form)
    assert {"reward", "continue"} <= model.capabilities
    for steps in (1, 5):
        out = model.imagine(seen(model, 2, steps), model.action_spec.rand((2,)), drawn(model, 2))
        filled = int(out.state["filled"][0])
        codes = model.tokenizer.quantizer.lookup(out.state["tokens"][:, :filled])
        rewards, ends = model.outcomes.compute(codes, model.action_code(out.state["led"][:, :filled]))
        torch.testing.assert_close(out.reward[:, 0], model.outcomes.rewards.reward(rewards[:, -1]))
        torch.testing.assert_close(out.cont[:, 0], ends[:, -1].softmax(-1)[:, 0])
        assert bool((out.cont < 1).all()) and out.cont.std() > 0


@pytest.mark.parametrize("form", ["genie", "redux-g"])
def test_reward_and_end_are_learned_at_the_frame_that_brings_them(form):
    """Six frames, of which the third pays 2 and ends the episode; those behind it are another film's."""
    model = rewarding(form)
    objective = model.objective()
    objective.stage = "dynamics"
    assert {"loss_reward", "loss_termination"} <= set(objective.out_keys)
    data = film(1, 5)
    data["next", "reward"][0, 1], data["next", "reward"][0, 4] = 2.0, 1.0
    films = objective.films(data)
    assert films.reward.tolist() == [[0, 0, 2], [0, 0, 1]] and not films.terminated.any()
    data["next", "terminated"][0, 1] = data["next", "done"][0, 1] = data["is_init"][0, 2] = True
    films = objective.films(data)
    assert films.terminated.tolist() == [[False, False, True], [False] * 3]
    out = objective(data)
    with torch.no_grad():
        tokens = model.tokenizer.tokens(films.pixels)
        action = F.pad(objective.led(films).codes, (0, 0, 1, 0))
        rewards, ends = model.outcomes.compute(model.tokenizer.quantizer.lookup(tokens), action)
    cross = F.cross_entropy(ends[:, 1:].flatten(0, 1), films.terminated[:, 1:].long().flatten())
    torch.testing.assert_close(out["loss_termination"].detach(), cross)
    said = model.outcomes.rewards.loss(rewards[:, 1:], films.reward[:, 1:]).mean()
    torch.testing.assert_close(out["loss_reward"].detach(), said)
    (out["loss_reward"] + out["loss_termination"]).backward()
    moved = {
        key.split(".")[0] for key, p in objective.world_model_params.flatten_keys(".").items() if p.grad is not None
    }
    assert moved == {"outcomes"}


# -- sizes -------------------------------------------------------------------------------------------------------------


def count(part) -> int:
    return sum(p.numel() for p in part.parameters())


PAPER = {
    "dynamics41m": 41e6,
    "dynamics96m": 96e6,
    "dynamics192m": 192e6,
    "dynamics404m": 404e6,
    "dynamics811m": 811e6,
    "dynamics1600m": 1.6e9,
    "dynamics2700m": 2.7e9,
    "platformers": 10.1e9,
}
FRAME = Composite(pixels=Bounded(0, 255, (96, 160, 3), dtype=torch.uint8))


@pytest.mark.parametrize("preset", PAPER)
def test_the_scaling_family_comes_within_eight_hundredths_of_the_papers_counts(preset):
    with torch.device("meta"):
        model = Genie(getattr(GenieConfig, preset)(), FRAME)
    positions = model.dynamics.transformer.positions.table.numel()
    assert abs((count(model.dynamics) - positions) / PAPER[preset] - 1) < 0.08


def test_the_parts_of_the_final_model_by_hand():
    with torch.device("meta"):
        model = Genie(GenieConfig.platformers(), FRAME)

    def transformer(size, dim, blocks, out, tokens, inner, heads, norm_only=False):
        attention = 3 * (dim * inner + inner) + inner * dim + dim + 2 * dim + 4 * (inner // heads)
        block = 2 * attention + 2 * dim + 8 * dim * dim + 5 * dim
        into = 2 * size if norm_only else 2 * size + size * dim + dim + 2 * dim
        return into + 16 * tokens * dim + blocks * block + 2 * dim + dim * out + out

    tokens, patches = 24 * 40, 6 * 10
    assert count(model.tokenizer) == (
        transformer(48, 512, 6, 32, tokens, 512, 8) + transformer(32, 1024, 10, 48, tokens, 1024, 16) + 1024 * 32
    )
    assert count(model.action_model) == (
        768 + transformer(768, 1024, 10, 32, patches + 1, 1024, 16)  # the action's token, and the encoder
        + 768 * 1024 + 1024 + transformer(1024, 1024, 10, 768, patches, 1024, 16) + 32 * 1024 + 1024 + 8 * 32
    )  # fmt: skip
    assert count(model.dynamics) == (
        1024 * 5120 + 5120 + 32 * 5120 + 5120 + transformer(5120, 5120, 24, 1024, tokens, 36 * 128, 36, norm_only=True)
    )


def test_a_saved_genie_needs_no_environment(genie, tmp_path):
    genie.save_pretrained(tmp_path / "model")
    again = load(tmp_path / "model")
    state, noise = seen(genie, 2, 2), drawn(genie, 2)
    action = genie.action_spec.rand((2,))
    one, other = genie.imagine(state, action, noise).state, again.imagine(state, action, noise).state
    assert all(torch.equal(one[key], other[key]) for key in one)


# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Genie(GenieConfig.tiny(patch=5, action_patch=2), SMALL), r"patches \(5, 5\) do not fill \(16, 16\)"),
        (lambda: Genie(GenieConfig.tiny(action_patch=3), SMALL), r"patches \(3, 3\) do not fill \(16, 16\)"),
        (lambda: Genie(GenieConfig.tiny(frames=1), SMALL), "at least 2 frames; got 1"),
        (lambda: Genie(GenieConfig.tiny(actions=1), SMALL), "got actions=1"),
        (lambda: Genie(GenieConfig.tiny(rounds=0), SMALL), "rounds is at least 1"),
        (lambda: Genie(GenieConfig.tiny(temperature=0.0), SMALL), "temperature above 0"),
        (lambda: Genie(GenieConfig.tiny(schedule="linear"), SMALL), "schedule must be one of 'cosine', 'warming'"),
        (lambda: Genie(GenieConfig.tiny(joining="beside"), SMALL), "joining must be one of 'added', 'prepended'"),
        (lambda: Genie(GenieConfig.tiny(block="gpt"), SMALL), "block must be one of 'genie', 'jasmine', '1xgpt'"),
        (lambda: Genie(GenieConfig.tiny(), Composite(observation=Unbounded(3))), "Genie dreams one uint8 image"),
        (lambda: Genie(GenieConfig.tiny(mask_limit=1.0), SMALL).objective(), "mask_limit is in"),
        (lambda: Genie(GenieConfig.tiny(withheld=-1), SMALL).objective(), "withheld=-1"),
        (
            lambda: Genie(GenieConfig.tiny(action_moving=-1.0), SMALL).objective(),
            "at least 0; got .*action_moving=-1.0",
        ),
        (lambda: Genie(GenieConfig.tiny(rolled=-1), SMALL).objective(), "rolled=-1"),
        (
            lambda: GenieReduxG(GenieReduxGConfig.tiny(embedding="none"), SMALL, OneHot(3)),
            "embedding must be one of 'learned', 'skipped'",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_numbers_that_came(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_films_of_one_frame_and_of_too_many_are_refused(genie):
    with pytest.raises(ValueError, match="at least 2; got 1"):
        genie.infer_codes(torch.zeros(1, 1, 16, 16, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="up to 3 frames of 5 tokens; got 4"):
        genie.infer_codes(torch.zeros(1, 4, 16, 16, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"do not fill \(15, 16\)"):
        genie.infer_codes(torch.zeros(1, 2, 15, 16, 3, dtype=torch.uint8))


def test_codes_out_of_range_are_refused(genie):
    with pytest.raises(ValueError, match="are 0 to 2; got"):
        MappedActions(genie, torch.tensor([0, 3]), OneHot(2))
    with pytest.raises(ValueError, match="each of the 2 actions has a code"):
        MappedActions(genie, torch.tensor([0, 1, 2]), OneHot(2))
