"""The assembled GAIA-1: dreams from memory, the sliding window, texts, guidance, losses, sizes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchrl.data import Bounded, Categorical, Composite, OneHot, Unbounded

from tests.support.models import CAPTIONED, DRIVEN, SMALL, VECTOR, gaia1
from tests.support.stages import at, parts_reached
from tests.support.stages import data as images
from wmcomponents.codecs import ActionVector
from wmcomponents.data import from_arrays
from wmcomponents.dynamics import ActionTokens, TextTokens
from wmcomponents.encoders import FrozenEncoder
from wmcomponents.functional import GuidanceSchedule, guided_logits
from wmcomponents.models import GAIA1, GAIA1Config, GAIA1Loss, IRISConfig
from wmcomponents.models.tokens.gaia1.objective import Film
from wmcomponents.models.tokens.gaia1.parts import dynamics_of, tokenizer_of
from wmcomponents.training import Trainer

K, M, L, BLOCK = 2, 2, 2, 6
DRIVE = Bounded(-1, 1, (2,))


def built(action=DRIVE, spec=CAPTIONED, **changes):
    torch.manual_seed(0)
    return gaia1(GAIA1Config.tiny(**{**DRIVEN, **changes}), spec, action).eval()


@pytest.fixture(scope="module")
def model():
    return built(max_frames=4, kept=2, top_k=9)


def begun(model, rows):
    generator = torch.Generator().manual_seed(0)
    seen = {"pixels": torch.randint(256, (rows, 8, 16, 3), generator=generator, dtype=torch.uint8)}
    seen["text"] = torch.randn(rows, M, 3, generator=generator)
    init = torch.ones(rows, 1, dtype=torch.bool)
    return model.observe(model.initial_state((rows,)), model.null_action((rows,)), seen, init, None)


def acts(rows, steps):
    return torch.rand(steps, rows, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1


def noises(model, rows, steps):
    drawn = model.noise_source("imagine")((steps, rows), torch.Generator().manual_seed(2))
    return [{key: value[t] for key, value in drawn.items()} for t in range(steps)]


def drawn(logits, u, top_k=9):
    logits = logits.masked_fill(logits < logits.topk(top_k).values[-1], float("-inf"))
    return int((logits.softmax(-1).cumsum(-1)[:-1] <= u).sum())


@torch.no_grad()
def read(part, film, codes):
    """Logits of the next code, of a list of (text, codes, action) and the codes of the last frame so far: no cache."""
    text, tokens, action = (list(column) for column in zip(*film, strict=True))
    tokens[-1] = torch.tensor([*codes, *[0] * (K - len(codes))])
    text, tokens, action = (torch.stack(column)[None] for column in (text, tokens, action))
    return part.compute(tokens, action, text)[0, -1, len(codes)]


def test_a_dream_from_memory_is_the_dream_that_reads_everything_anew_and_the_window_slides(model):
    rows, steps, part, nothing = 2, 6, model.dynamics, torch.zeros(2)
    state, actions, noise = begun(model, rows), acts(rows, steps), noises(model, rows, steps)
    films = [[(state["said"][row], state["tokens"][row], nothing)] for row in range(rows)]
    lengths = []
    for t in range(steps):
        state = model.imagine(state, actions[t], noise[t]).state
        for row in range(rows):
            film = films[row][-2:] if len(films[row]) == 4 else films[row]
            films[row] = [*film[:-1], (*film[-1][:2], actions[t, row])]
            made, empty = [], (state["said"][row], torch.zeros(K), nothing)
            for k in range(K):
                made.append(drawn(read(part, [*films[row], empty], made), noise[t]["tokens"][row, k]))
            assert state["tokens"][row].tolist() == made
            films[row].append((state["said"][row], state["tokens"][row], nothing))
            assert state["length"][row].item() == BLOCK * len(films[row]) - L
        lengths.append(len(films[0]))
    assert lengths == [2, 3, 4, 3, 4, 3]


def test_an_accelerators_way_which_looks_at_no_number_is_the_cpus_way(model, monkeypatch):
    looked = {key: value.clone() for key, value in begun(model, 3).items()}
    looked = {key: torch.cat([value, model.initial_state((1,))[key]]) for key, value in looked.items()}
    unlooked = looked
    for action, noise in zip(acts(4, 5), noises(model, 4, 5), strict=True):
        looked = model.imagine(looked, action, noise).state
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_compiling", lambda: True)
            unlooked = model.imagine(unlooked, action, noise).state
        assert torch.equal(looked["tokens"], unlooked["tokens"]) and torch.equal(looked["length"], unlooked["length"])
        torch.testing.assert_close(looked["hidden"], unlooked["hidden"], rtol=1e-4, atol=1e-5)


def test_a_film_that_is_observed_is_the_film_that_is_read_at_once(model):
    generator = torch.Generator().manual_seed(5)
    seen = {"pixels": torch.randint(256, (1, 3, 8, 16, 3), generator=generator, dtype=torch.uint8)}
    seen["text"] = torch.randn(1, 3, M, 3, generator=generator)
    init, led = torch.tensor([[[True], [False], [False]]]), acts(3, 1).movedim(0, 1).reshape(1, 3, 2)
    state = model.observe_last(model.initial_state((1,)), led, seen, init, None)
    tokens, after = model.tokenizer.tokens(seen["pixels"]), acts(1, 1)[0]
    noise = {"tokens": torch.full((1, K), 0.5)}
    made = model.imagine(state, after, noise).state["tokens"][0]
    film = [(seen["text"][0, t], tokens[0, t], [led[0, 1], led[0, 2], after[0]][t]) for t in range(3)]
    film.append((seen["text"][0, 2], tokens[0, 0], after[0]))
    for k in range(K):
        assert made[k].item() == drawn(read(model.dynamics, film, made[:k].tolist()), 0.5)


def test_a_state_that_has_seen_nothing_dreams_its_first_frame_from_its_text_alone(model):
    text, noise = torch.randn(M, 3), noises(model, 2, 1)[0]
    state = model.told(model.initial_state((2,)), text)
    one, other = (model.imagine(state, action, noise).state for action in acts(2, 2))
    assert torch.equal(one["tokens"], other["tokens"]) and one["length"].tolist() == [[M + K]] * 2
    film, made = [(text, torch.zeros(K), torch.zeros(2))], one["tokens"][1].tolist()
    for k in range(K):
        assert made[k] == drawn(read(model.dynamics, film, made[:k]), noise["tokens"][1, k])
    assert torch.equal(model.decode(one)["text"], text.expand(2, -1, -1))


@pytest.mark.parametrize("is_negative", [False, True])
def test_guided_codes_are_what_both_contexts_say_read_anew(model, is_negative):
    guided = model.guided(3.0, plateau=1, decay=2)
    assert guided.state_bytes() > 1.9 * model.state_bytes() and not guided.training
    state, text, unwanted = begun(guided, 1), torch.randn(M, 3), torch.randn(M, 3)
    before = state["said"][0]
    state = guided.told(state, text, unwanted if is_negative else None)
    noise, actions, other = noises(guided, 1, 2), acts(1, 2), unwanted if is_negative else torch.zeros(M, 3)
    # What was seen was seen without a text in the second stream, as nothing was unwanted then.
    films = [[(said, state["tokens"][0], actions[0, 0])] for said in (before, torch.zeros(M, 3))]
    for t in range(2):
        state = guided.imagine(state, actions[t], noise[t]).state
        made = []
        for k in range(K):
            pair = [
                read(guided.dynamics, [*film, (said, torch.zeros(K), torch.zeros(2))], made)
                for film, said in zip(films, (text, other), strict=True)
            ]
            scale = 3.0 * (1 - k / K) * (1.0 if t < 2 else 0.5)
            made.append(drawn((1 + scale) * pair[0] - scale * pair[1], noise[t]["tokens"][0, k]))
        assert state["tokens"][0].tolist() == made and state["guided"].item() == t + 1
        films = [
            [*film, (said, state["tokens"][0], actions[min(t + 1, 1), 0])]
            for film, said in zip(films, (text, other), strict=True)
        ]


def test_a_cache_that_is_a_view_is_not_written_past(model):
    guided, action = model.guided(3.0), acts(3, 1)[0]
    state, noise = begun(guided, 3), noises(guided, 3, 1)[0]
    wanted = guided.imagine(state, action, noise).state
    strided = {key: torch.stack([value] * 2, 1)[:, 1] for key, value in state.items()}
    found = guided.imagine_inplace(strided, action, noise).state
    assert not strided["kv_cache"].is_contiguous() and all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_guidance_falls_over_codes_and_frames():
    frames = torch.tensor([[0], [1], [2], [3], [9]])
    first = GuidanceSchedule(4.0, plateau=1, decay=2).at(frames, 4)[:, 0]
    torch.testing.assert_close(first, torch.tensor([4.0, 4.0, 2.0, 0.0, 0.0]))
    torch.testing.assert_close(GuidanceSchedule(4.0).at(frames[:1], 4), torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
    torch.testing.assert_close(guided_logits(torch.tensor([2.0]), torch.tensor([1.0]), 0.5), torch.tensor([2.5]))


def test_zeros_say_nothing_and_what_is_missing_has_a_token_of_its_own():
    texts, actions = TextTokens(4, count=2, width=3), ActionTokens(4, (1, 1), are_choices=False)
    found = texts(torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]), (1,))
    torch.testing.assert_close(found[0, 0], texts.embedding.weight[:, 0] + texts.embedding.bias)
    assert torch.equal(found[0, 1], texts.nothing) and torch.equal(texts(None, (5,))[4, 1], texts.nothing)
    found = actions(torch.tensor([0.5, float("nan")]))
    weight, bias = actions.embeddings[0].weight[:, 0], actions.embeddings[0].bias
    torch.testing.assert_close(found[0], 0.5 * weight + bias)
    assert torch.equal(found[1], actions.nothing)
    choices = ActionTokens(4, (3, 2), are_choices=True)
    found = choices(torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0]))
    assert torch.equal(found[0], choices.nothing) and not torch.equal(found[1], choices.nothing)


def test_texts_and_the_words_of_a_users_encoder_are_cut_or_filled_up(model):
    text = model.encode_texts(lambda texts: torch.ones(len(texts), 1, 3), ["rain", "sun"])
    assert text.tolist() == [[[1.0] * 3, [0.0] * 3]] * 2
    assert model.encode_texts(lambda texts: torch.ones(1, 9, 3), ["rain"]).shape == (1, M, 3)
    with pytest.raises(ValueError, match="text_width=5"):
        model.encode_texts(lambda texts: torch.ones(1, 2, 5), ["rain"])


@pytest.mark.parametrize(("action", "tokens"), [(OneHot(3), 1), (Categorical(4), 1), (Unbounded(3), 3)])
def test_an_action_is_one_token_a_choice_or_number_and_may_be_left_out(action, tokens):
    model = built(action, SMALL, max_frames=2, kept=1)
    assert model.dynamics.action.count == tokens and model.dynamics.text.count == 1 and model.text_key is None
    free = model.free_action((2,))
    embedded = model.dynamics.action(model.action_vector(free))
    assert (embedded == model.dynamics.action.nothing).all()
    assert model.imagine(model.initial_state((2,)), free, None).state["tokens"].shape == (2, 4)


# -- losses ------------------------------------------------------------------------------------------------------------


def captioned(rows=2, steps=5):
    batch = images(rows, steps)
    text = torch.randn(rows, steps, M, 3, generator=torch.Generator().manual_seed(4))
    for part in (batch, batch["next"]):
        part["pixels"], part["text"] = part["pixels"][:, :, :8].clone(), text.clone()
    batch["action"] = acts(steps, rows).movedim(0, 1).reshape(rows, steps, 2)
    return batch


def test_the_loss_is_the_cross_entropy_of_codes_alone_up_to_a_pieces_first_end(model):
    batch = captioned()
    batch["next", "done"][0, 1] = True
    objective = at(GAIA1Loss(model, GAIA1Config.tiny(unconditioned=0.0, action_only=0.0).loss), "transformer")
    found, total, count = objective(batch)["loss_tokens"], 0.0, 0
    tokens = model.tokenizer.tokens(batch["pixels"])
    for row, steps in ((0, range(2)), (0, range(4, 5)), (1, range(4)), (1, range(4, 5))):
        logits = model.dynamics.compute(tokens[row, steps], batch["action"][row, steps], batch["text"][row, steps])
        total += F.cross_entropy(logits.flatten(0, 1), tokens[row, steps].flatten(), reduction="sum")
        count += len(steps) * K
    torch.testing.assert_close(found, total / count)
    assert set(objective(batch).keys()) == {"loss_tokens", "accuracy"}


def test_texts_and_actions_are_hidden_by_their_shares(model):
    shares = {"unconditioned": 0.2, "action_only": 0.3, "text_only": 0.4}
    objective = at(GAIA1Loss(model, GAIA1Config.tiny(**shares).loss), "transformer")
    rows = torch.randn(500, 3, M, 3, generator=torch.Generator().manual_seed(4))
    film = Film(torch.zeros(500, 3, K), rows[..., 0], rows, torch.ones(500, 3))
    hidden = objective.hidden(film)
    has_text, has_action = (hidden.text != 0).flatten(1).any(1), ~hidden.action.isnan().flatten(1).any(1)
    counts = {
        (text, action): ((has_text == text) & (has_action == action)).float().mean().item()
        for text in (False, True)
        for action in (False, True)
    }
    wanted = {(False, False): 0.2, (False, True): 0.3, (True, False): 0.4, (True, True): 0.1}
    assert all(abs(counts[key] - share) < 0.07 for key, share in wanted.items())
    kept = has_text & has_action
    assert torch.equal(hidden.text[kept], film.text[kept]) and torch.equal(hidden.action[kept], film.action[kept])
    assert objective(captioned())["loss_tokens"].isfinite()


@pytest.mark.parametrize("stage", ["tokenizer", "transformer"])
def test_a_stage_reaches_its_part_alone(model, stage):
    objective = at(model.objective(), stage)
    assert parts_reached(objective, captioned()) == {{"tokenizer": "tokenizer", "transformer": "dynamics"}[stage]}
    groups = {group["clip"]: group for group in objective.make_optimizer().param_groups if group["weight_decay"]}
    assert groups["transformer"]["weight_decay"] == 0.1 and groups["transformer"]["betas"] == (0.9, 0.95)
    assert groups["transformer"]["max_norm"] == 1.0


def test_codes_tell_what_a_backbone_sees():
    model = built(distilled=5)
    backbone = FrozenEncoder(nn.Conv2d(3, 5, 4, 4))
    objective = model.objective(backbone=backbone, perceptual=lambda x, y: (x - y).abs().mean((1, 2, 3)))
    batch = captioned()
    found = at(objective, "tokenizer")(batch)
    assert set(objective.out_keys) == set(found.keys())
    pixels = torch.cat([batch["pixels"], batch["next", "pixels"][:, -1:]], 1).flatten(0, 1)
    _, codes, _ = model.tokenizer.tokenize(pixels.permute(0, 3, 1, 2) / 127.5 - 1)
    maps = backbone(pixels=pixels).unflatten(1, (2, 4)).movedim(-1, 1)
    target = F.interpolate(maps, (1, 2), mode="bilinear").flatten(2).transpose(1, 2)
    told = 1 - F.cosine_similarity(model.tokenizer.to_features(codes), target, dim=-1)
    torch.testing.assert_close(found["loss_distillation"], 0.1 * told.mean())
    assert parts_reached(objective, batch) == {"tokenizer"}
    assert not any(p.requires_grad for p in objective.backbone.parameters())


def apart(codes, vectors):
    """How far each code is from the nearest vector."""
    return (codes.unsqueeze(1) - vectors).norm(dim=-1).amin(1)


def test_a_codebook_of_directions_begins_with_those_of_real_frames_and_its_unused_codes_are_revived():
    model, batch = built(code=4), captioned(3, 5)
    model.prepare(batch)
    seen = model.tokenizer.encode(batch["pixels"].flatten(0, 1).permute(0, 3, 1, 2) / 127.5 - 1).flatten(0, 1)
    seen = F.normalize(seen, dim=-1).detach()
    codebook = model.tokenizer.quantizer.codebook
    assert (apart(codebook, seen) < 1e-5).all()
    with torch.no_grad():
        codebook[3:] = -seen.mean(0)  # what nothing is near
    objective = model.objective()
    objective.before_update(0)
    sum(value for key, value in objective(batch).items() if key.startswith("loss_")).backward()
    objective.after_update(0)
    arrived = model.tokenizer.encode(batch["next", "pixels"].flatten(0, 1).permute(0, 3, 1, 2) / 127.5 - 1)
    near = torch.cat([seen, F.normalize(arrived.flatten(0, 1), dim=-1).detach()])
    assert (apart(model.tokenizer.quantizer.codebook[3:], near) < 1e-5).sum() > 8


def trainer(**options):
    generator = torch.Generator().manual_seed(0)
    film = {"pixels": torch.randint(256, (9, 8, 16, 3), dtype=torch.uint8, generator=generator)}
    film["text"] = torch.randn(9, M, 3, generator=generator)
    steps = {"sequence_length": 4, "batch_size": 2, "seed": 0, "print_fn": None, "action_space": DRIVE}
    replay = from_arrays([film] * 2, [acts(1, 8)[:, 0]] * 2, **steps)
    return Trainer(built(tokenizer_steps=2, tokenizer_frames=4), replay, progress=False, **options)


def test_one_call_trains_both_stages_and_a_resumed_run_ends_with_the_same_bits(tmp_path):
    whole = trainer(out=tmp_path / "whole")
    whole.train(4)
    trainer(out=tmp_path / "parted").train(3)
    torch.rand(5)  # what else the process draws
    parted = trainer(out=tmp_path / "parted")
    assert parted.steps == 3
    parted.train(4)
    state, begun = parted.model.state_dict(), built().state_dict()
    assert all(torch.equal(value, state[key]) for key, value in whole.model.state_dict().items())
    moved = {key.split(".")[0] for key, value in state.items() if not torch.equal(value, begun[key])}
    assert moved == {"tokenizer", "dynamics", "fitted"}


# -- sizes and bad input -----------------------------------------------------------------------------------------------


def test_the_published_sizes():
    net, vector = GAIA1Config.paper().network, ActionVector(DRIVE)
    with torch.device("meta"):
        tokenizer, dynamics = tokenizer_of(net.tokenizer, (288, 512, 3), "pixels"), dynamics_of(net, 576, vector, True)
    count = [sum(p.numel() for p in part.parameters()) for part in (tokenizer, dynamics)]
    assert count == [319_455_843, 6_518_099_968]  # 0.3 and 6.5 billion
    assert tokenizer.grid == (18, 32) and tokenizer.length == 576 and tokenizer.quantizer.codes == 8192
    assert dynamics.block == 610 and dynamics.max_frames * dynamics.block == 15_860
    assert dynamics.times.weight.shape == (26, 4096) and dynamics.places.weight.shape == (610, 4096)
    assert dynamics.text.embedding.weight.shape == (4096, 1024) and GAIA1.presets() == ("tiny", "paper")


IMAGE = Bounded(0, 255, (8, 16, 3), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: built(spec=Composite(pixels=IMAGE, text=Unbounded((2, 7)))), "text_tokens=2, text_width=7"),
        (lambda: built(spec=Composite(pixels=IMAGE, text=Unbounded((9, 3)))), "text_tokens=9, text_width=3"),
        (lambda: built(spec=Composite(pixels=Bounded(0, 255, (8, 12, 3), dtype=torch.uint8))), "divides both sides"),
        (lambda: built(downsampling=6), "power of two"),
        (lambda: built(spec=VECTOR), "one uint8 image"),
        (lambda: built(max_frames=2, kept=2), "fewer are kept"),
        (lambda: built(heads=3), "heads divide the size"),
        (lambda: built(spec=SMALL, guidance=1.0), "the observation has none"),
        (lambda: built(guidance=-1.0), "at least 0"),
        (lambda: built(unconditioned=0.7, text_only=0.7).objective(), "at most 1 together"),
        (lambda: built().objective(backbone=nn.Conv2d(3, 5, 4, 4)), "is a FrozenEncoder"),
        (lambda: built().objective(backbone=FrozenEncoder(nn.Conv2d(3, 5, 4, 4))), "distilled="),
        (lambda: built(spec=SMALL).encode_texts(lambda texts: torch.ones(1, 2, 3), ["rain"]), "no texts"),
        (lambda: GAIA1(IRISConfig.tiny(), CAPTIONED, DRIVE), "GAIA1Config"),
    ],
)
def test_what_cannot_be_modelled_is_refused(wrong, said):
    with pytest.raises((ValueError, TypeError), match=said):
        wrong()


def test_what_cannot_be_read_is_refused(model):
    part, action = model.dynamics, torch.zeros(1, 1, 2)
    with pytest.raises(IndexError):
        part.compute(torch.tensor([[[3, 16]]]), action)  # a code out of range
    with pytest.raises(ValueError, match="2 vectors of 3 numbers"):
        part.compute(torch.zeros(1, 1, K, dtype=torch.int64), action, torch.zeros(1, 1, 2, 4))
    with pytest.raises(ValueError, match="holds 4 frames with their texts and actions; got 5"):
        part.compute(torch.zeros(1, 5, K, dtype=torch.int64), torch.zeros(1, 5, 2))
    with pytest.raises(ValueError, match="2 vectors of 3 numbers"):
        model.told(model.initial_state((1,)), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="where guidance is above 0"):
        model.told(model.initial_state((1,)), torch.zeros(2, 3), torch.zeros(2, 3))
    wide = built(distilled=5)
    with pytest.raises(ValueError, match="distilled=7"):
        wide.tokenizer.distillation(torch.zeros(1, K, 8), torch.zeros(1, 8, 7))
    with pytest.raises(ValueError, match="7 patches make no grid"):
        wide.tokenizer.distillation(torch.zeros(1, K, 8), torch.zeros(1, 7, 5))
