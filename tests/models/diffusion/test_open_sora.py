"""The assembled Open-Sora: frames drawn along the flow of either network, given frames, texts, guidance, losses."""

import pytest
import torch
from tensordict import TensorDict
from torch.nn.functional import one_hot
from torchrl.data import Bounded, Composite, OneHot

from tests.support.models import CAPTIONED, OPEN_SORA, SMALL, STREAMS, open_sora
from wmcomponents.denoisers import told
from wmcomponents.dream import last_states
from wmcomponents.functional import film_shift, shifted_time, three_way, token_shift
from wmcomponents.models import (
    ConvAutoencoderConfig,
    FlowSamplingConfig,
    GivenFramesConfig,
    OpenSora,
    OpenSoraConfig,
    OpenSoraLoss,
    OpenSoraLossConfig,
    STDiT3Config,
)
from wmcomponents.models.diffusion.open_sora.flows import FlowCondition
from wmcomponents.nn import ConvAutoencoder
from wmcomponents.objectives.films import Films
from wmcomponents.tokenizers import LatentTokenizer


def built(transformer="stdit3", spec=CAPTIONED, **changes):
    torch.manual_seed(0)
    network = {} if transformer == "stdit3" else {"transformer": STREAMS}
    return open_sora(OpenSoraConfig.tiny(**{**OPEN_SORA, "steps": 3, **network, **changes}), spec, OneHot(3)).eval()


@pytest.fixture(scope="module", params=["stdit3", "mmdit"])
def model(request):
    return built(request.param, shift=0.7)


def sequences(rows=2, steps=3, spec=CAPTIONED):
    generator = torch.Generator().manual_seed(0)
    shape = spec["pixels"].shape
    seen = torch.randint(0, 256, (rows, steps + 1, *shape), generator=generator, dtype=torch.uint8)
    chosen = torch.randint(3, (rows, steps), generator=generator)
    flag = torch.zeros(rows, steps, 1, dtype=torch.bool)
    after = {"pixels": seen[:, 1:].clone(), "reward": torch.ones(rows, steps, 1), "terminated": flag, "done": flag}
    now = {"pixels": seen[:, :-1].clone(), "action": one_hot(chosen, 3), "is_init": flag.clone()}
    if "text" in spec.keys():
        text = torch.randn(rows, 1, *spec["text"].shape, generator=generator)
        now["text"], after["text"] = (text.expand(-1, steps, -1, -1).clone() for _ in range(2))
    return TensorDict({**now, "next": TensorDict(after, [rows, steps])}, [rows, steps])


def of_other_lengths(model):
    """States of two rows, of which the first has seen one frame and the second two."""
    long = last_states(model, sequences(steps=2))
    short = last_states(model, sequences(steps=1))
    return {key: torch.cat([short[key][:1], long[key][1:]]) for key in long}


def said(model, film, time, known, led, text):
    """The velocity from data to noise of a film without anything absent, as the network alone says it."""
    net, rows = model.network.net, len(film)
    if hasattr(net, "fps"):
        size = torch.tensor([[8.0, 16.0]]).expand(rows, 2)
        level, fps = torch.full((rows,), 1000.0 * time), torch.full((rows,), 24.0)
        return -net(film, level, text, fps, size, known=known, action=led)[:, :, : film.shape[2]]
    return net(film, torch.full((rows,), time), text, text.mean(1), told(film, known), led)


@torch.no_grad()
def drawn_by_hand(model, past, led, text, noise, steps, frames=1):
    """New frames as Open-Sora draws them: Euler along the flow of the whole film, given frames put back each time."""
    times = [float(shifted_time(1.0 - i / steps, model.shift)) for i in range(steps + 1)]
    known = torch.arange(past.shape[1] + frames)[None] < past.shape[1]
    film = torch.cat([past, noise], 1)
    for now, after in zip(times[:-1], times[1:], strict=True):
        moved = film + (after - now) * said(model, film, now, known, led, text)
        film = torch.where(known[..., None, None, None], film, moved)
    return film[:, past.shape[1] :]


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2])
def test_frames_are_drawn_as_a_loop_over_whole_films_draws_them(model, frames):
    state = of_other_lengths(model)
    assert state["filled"].tolist() == [[1], [2]]
    action = one_hot(torch.tensor([[0, 1], [2, 1]]), 3)[:, :frames]
    noise = dict(model.film_noise_spec(frames).expand(2).rand().items())
    after = model.imagine_film(state, action, noise)
    for row in range(2):
        count = int(state["filled"][row])
        kept = min(count, model.window - frames)
        past = state["window"][row : row + 1, count - kept : count]
        led = torch.cat([state["led"][row : row + 1, count - kept : count], action[row : row + 1].float()], 1)
        given = (model, past, led, state["said"][row : row + 1], noise["frame"][row : row + 1], 3, frames)
        place = int(after.state["filled"][row, -1])
        found = after.state["window"][row, -1, place - frames : place]
        torch.testing.assert_close(found, drawn_by_hand(*given)[0], rtol=1e-3, atol=1e-3)
        # Given frames stay as they are, to the bit.
        assert torch.equal(after.state["window"][row, -1, place - frames - kept : place - frames], past[0])


@torch.no_grad()
def test_what_stands_behind_the_film_is_of_no_meaning(model):
    state, action = of_other_lengths(model), one_hot(torch.tensor([0, 1]), 3)
    noise = dict(model.noise_spec["imagine"].expand(2).rand().items())
    other = {**state, "window": state["window"].clone(), "led": state["led"].clone()}
    other["window"][0, 1:], other["led"][0, 1:] = 5.0, 5.0
    one, two = (model.imagine(start, action, noise).state["window"][0, :2] for start in (state, other))
    torch.testing.assert_close(one, two)


@torch.no_grad()
def test_guidance_of_one_is_none_and_else_leads_away_from_less(model):
    words = torch.randn(2, 2, 3)
    known, present = torch.tensor([[1, 0, 0]] * 2).bool(), torch.tensor([[1, 1, 0]] * 2).bool()
    under = FlowCondition(known, present, torch.zeros(2, 3, 3), words)
    calls = []

    def says(told):
        calls.append(told)
        return torch.full((2,), (told.text is not None) * 1.0 + 10.0 * bool(told.known.any()))

    def guided(step=0, **numbers):
        calls.clear()
        model.sampling = FlowSamplingConfig(**{"steps": 3, "text_guidance": 1.0, **numbers})
        return model.guided(says, under, step)

    kept = model.sampling
    assert guided().tolist() == [11.0] * 2 and len(calls) == 1
    both = guided(text_guidance=3.0, past_guidance=2.0)
    assert both.tolist() == three_way(*(torch.full((2,), x) for x in (11.0, 10.0, 0.0)), 3.0, 2.0).tolist()
    # Without the past only the frames that are drawn are there.
    assert len(calls) == 3 and torch.equal(calls[-1].present, present & ~known)
    assert guided(text_guidance=3.0).tolist() == [13.0] * 2 and len(calls) == 2
    assert guided(past_guidance=2.0).tolist() == [21.0] * 2
    assert guided(3, text_guidance=3.0, steady=2).tolist() == [11.0] * 2
    model.sampling = kept


@torch.no_grad()
def test_a_text_that_says_nothing_is_no_text_and_others_are_followed(model):
    state, action = of_other_lengths(model), one_hot(torch.tensor([0, 1]), 3)
    noise = dict(model.noise_spec["imagine"].expand(2).rand().items())
    night = model.encode_texts(lambda texts: torch.ones(len(texts), 5, 3), ["night", "rain"])
    assert night.shape == (2, 2, 3)

    def next_frame(start):
        return model.imagine(start, action, noise).state["window"]

    silent = model.told(state, torch.zeros(2, 3))
    assert not torch.equal(next_frame(model.told(state, night)), next_frame(silent))
    assert torch.equal(model.decode(model.told(state, night))["text"], night)
    calls, network = [], model.network.forward
    model.network.forward = lambda film, time, under: network(film, time, under._replace(text=calls.append(1)))
    unsaid = next_frame(state)
    del model.network.forward
    torch.testing.assert_close(next_frame(silent), unsaid)
    for text in (torch.zeros(2, 4), torch.zeros(3, 3)):
        with pytest.raises(ValueError, match="2 vectors of 3 numbers"):
            model.told(state, text)
    with pytest.raises(ValueError, match="text_width"):
        model.encode_texts(lambda texts: torch.ones(1, 2, 4), ["night"])


def test_a_world_without_texts_is_told_none():
    model = built(spec=SMALL)
    assert "said" not in model.initial_state(()) and model.decode(model.initial_state((1,))).keys() == {"pixels"}
    with pytest.raises(ValueError, match="no text in the observation"):
        model.told(model.initial_state((1,)), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="no texts"):
        model.encode_texts(lambda texts: torch.ones(1, 2, 3), ["night"])


def test_steps_are_a_knob():
    model = built()
    state, action = of_other_lengths(model), one_hot(torch.tensor([0, 1]), 3)
    calls, network = [], model.network.forward
    model.network.forward = lambda *given: calls.append(1) or network(*given)
    for steps in (1, 2):
        calls.clear()
        model.sampling = FlowSamplingConfig(steps, text_guidance=1.0)
        with torch.no_grad():
            model.imagine(state, action, None)
        assert len(calls) == steps == model.config.network.sampling.steps


def test_the_shift_follows_from_the_size_as_published():
    sizes = {"frames": 3, "shift": None}
    assert built(**sizes).shift == pytest.approx(film_shift(8 * 16, 3))
    assert built("mmdit", **sizes).shift == pytest.approx(token_shift(2 * 4, 3))


# -- losses ------------------------------------------------------------------------------------------------------------


def test_the_autoencoder_learns_first_and_then_the_flow_over_its_latents():
    model = built(autoencoder_steps=2)
    objective, batch = model.objective(), sequences()
    assert [objective.stage_at(step) for step in range(4)] == ["autoencoder", "autoencoder", "network", "network"]
    reached = {}
    for step in (0, 2):
        objective.before_update(step)
        objective.zero_grad()
        losses = objective(batch)
        assert set(losses.keys()) == set(objective.out_keys)
        sum(value for key, value in losses.items() if key.startswith("loss_")).backward()
        named = objective.world_model_params.flatten_keys(".").items()
        reached[step] = {name.split(".")[0] for name, value in named if value.grad is not None and value.grad.any()}
    assert reached == {0: {"tokenizer"}, 2: {"network", "reward_end"}}


def test_the_true_velocity_costs_nothing_and_given_frames_do_not_count():
    model = built()
    objective = OpenSoraLoss(model, OpenSoraLossConfig(GivenFramesConfig(0.0, 1.0, *(0.0,) * 9), text_dropout=0.5))
    clean, weight = torch.randn(4, 3, 2, 4, 8), torch.tensor([[1.0, 1.0, 0.0]]).expand(4, 3)
    present, words = weight > 0, torch.ones(4, 2, 3)
    heard = {}

    def truth(film, time, under):
        """Noise less data, where the film is noisy; nonsense where it is given."""
        heard.update(film=film, under=under)
        u = time.view(-1, 1, 1, 1, 1)
        known = under.known[..., None, None, None]
        return torch.where(known, 9.0, (film - clean) / u)

    model.network.forward = truth
    blank = torch.zeros(4, 3)
    films = Films(clean, blank, present, blank, present, weight, present, words)
    found = objective.denoised(films, clean, torch.zeros(4, 3, 3))
    known = heard["under"].known
    assert bool(known.any()) and not bool(known.all())
    assert torch.equal(heard["film"][known], clean[known]) and not torch.equal(heard["film"][~known], clean[~known])
    assert torch.equal(found.weight, weight * ~known)
    torch.testing.assert_close(found.error[~known], torch.zeros(int((~known).sum())), rtol=0, atol=1e-6)
    assert bool((found.error[known] > 1).all())
    assert torch.equal(heard["under"].present, present)
    hidden = (heard["under"].text == 0).flatten(1)
    assert set(hidden.all(1).tolist()) == {True, False} and torch.equal(hidden.all(1), hidden.any(1))


def test_the_end_of_an_episode_is_not_looked_beyond():
    model = built(given=GivenFramesConfig(1.0, *(0.0,) * 10))
    batch = sequences(rows=4, steps=2)
    batch["is_init"][:, 1] = True
    batch["next", "done"][:, 0] = True
    other = batch.clone()
    other["pixels"][:, 1], other["next", "pixels"][:, 1] = 0, 0
    losses = []
    for one in (batch, other):
        objective = model.objective()
        objective.stage = "network"
        losses.append(float(objective(one)["loss_denoising"].detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and losses[0] > 0


# -- what may be handed over, and what is refused ----------------------------------------------------------------------


def test_a_tokenizer_of_yours_makes_the_latents_and_is_saved_along(tmp_path):
    torch.manual_seed(0)
    config = OpenSoraConfig.tiny(**{**OPEN_SORA, "autoencoder": None, "autoencoder_steps": 0})
    part = LatentTokenizer(ConvAutoencoder(latent=3, mults=(1, 1)), scale=0.5)
    model = OpenSora(config, CAPTIONED, OneHot(3), tokenizer=part)
    assert model.frame_shape == (3, 4, 8) and model.tokenizer is part
    assert model.objective().stage == "network"
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(Exception, match="handed over"):
        OpenSora.from_pretrained(tmp_path / "model")
    other = LatentTokenizer(ConvAutoencoder(latent=3, mults=(1, 1)))
    loaded = OpenSora.from_pretrained(tmp_path / "model", tokenizer=other)
    pixels = sequences()["pixels"]
    torch.testing.assert_close(loaded.frames_of(pixels), model.frames_of(pixels))


def test_published_sizes_are_built_on_latents_of_yours():
    image, part = Bounded(0, 255, (64, 96, 3), dtype=torch.uint8), ConvAutoencoder(latent=4, mults=(1, 1, 1, 1))
    spec = Composite(pixels=image)
    with torch.device("meta"):
        model = OpenSora(OpenSoraConfig.open_sora_1_2(), spec, OneHot(3), tokenizer=LatentTokenizer(part))
        sixteen = LatentTokenizer(ConvAutoencoder(latent=16, mults=(1, 1, 1, 1)))
        larger = OpenSora(OpenSoraConfig.open_sora_2_0(), spec, OneHot(3), tokenizer=sixteen)
    count = {name: sum(p.numel() for p in one.network.parameters()) for name, one in (("1.2", model), ("2", larger))}
    assert 1.1e9 < count["1.2"] < 1.25e9 and 11e9 < count["2"] < 12e9
    assert model.sampling.steps == 30 and larger.sampling.past_guidance == 3.0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"frames": 1}, "at least 2 frames"),
        ({"autoencoder": ConvAutoencoderConfig(mults=(1, 1, 1, 1, 1))}, "halve"),
        ({"transformer": STDiT3Config(16, 1, 2, 3, 2, 3)}, "do not fill"),
        ({"transformer": STDiT3Config(16, 1, 2, 2, 2, 4)}, "text_width=4"),
        ({"steps": 0}, "step"),
        ({"text_guidance": -1.0}, "guidance is at least 0"),
        ({"steady": -1}, "at least 0"),
        ({"autoencoder": None}, "got neither"),
        ({"shift": 0.0}, "shift"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        OpenSora(OpenSoraConfig.tiny(**{**OPEN_SORA, **changes}), CAPTIONED, OneHot(3))


def test_an_autoencoder_besides_a_tokenizer_is_refused():
    with pytest.raises(ValueError, match="got both"):
        OpenSora(OpenSoraConfig.tiny(**OPEN_SORA), CAPTIONED, OneHot(3), LatentTokenizer(ConvAutoencoder()))


@pytest.mark.parametrize(
    "config, message",
    [
        (OpenSoraLossConfig(text_dropout=1.5), "text_dropout"),
        (OpenSoraLossConfig(time_std=0.0), "time_std"),
        (OpenSoraLossConfig(kl_scale=-1.0), "at least 0"),
        (OpenSoraLossConfig(GivenFramesConfig(past=0.9)), "at most 1 together"),
        (OpenSoraLossConfig(GivenFramesConfig(past=-0.1)), "at least 0 each"),
    ],
)
def test_losses_that_cannot_be_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        OpenSoraLoss(built(), config)


def test_reward_and_end_are_left_out_where_there_are_none():
    model = built(reward_end=None)
    assert model.capabilities == {"decode", "objective"} and set(model.noise_spec["imagine"].keys()) == {"frame"}
