"""Changes between frames as tokens, and frames out of them."""

import pytest
import torch
from torch import nn

from wmcomponents.nn import CosineQuantizer, chunks
from wmcomponents.tokenizers import DeltaTokenizer

SIZES = {"features": 2, "context": 2, "channels": 32, "context_channels": 32, "mults": (1, 1), "halves": (True, False)}


def tokenizer(tokens=4):
    torch.manual_seed(0)
    return DeltaTokenizer((16, 16, 3), 2, CosineQuantizer(7, 4), tokens=tokens, **SIZES).eval()


def transitions(count):
    generator = torch.Generator().manual_seed(0)
    before, after = torch.randint(0, 256, (2, count, 16, 16, 3), generator=generator, dtype=torch.uint8)
    return before, torch.arange(count) % 2, after


@torch.no_grad()
def test_frames_in_turns_are_frames_at_once(monkeypatch):
    part, (before, action, after) = tokenizer(), transitions(7)
    tokens = part.tokens(before, action, after)
    shown = part.pixels(before, action, tokens)
    assert part.tokens(before[:0], action[:0], after[:0]).shape == (0, 4)
    monkeypatch.setattr(chunks, "CPU_PIXELS", 3 * 16 * 16)
    assert torch.equal(part.tokens(before, action, after), tokens)
    assert int((part.pixels(before, action, tokens).int() - shown.int()).abs().max()) <= 1


def test_tokens_stand_row_by_row_of_the_cells_and_codes_come_back_to_theirs():
    part = tokenizer()
    z = torch.zeros(1, 2, 8, 8)
    z[:, :, :4, 4:] = 1.0  # the second of four cells
    part.features = lambda x, action, following: z
    part.to_code = part.from_code = nn.Identity()
    codes = part.encode(torch.zeros(1, 3, 16, 16), torch.tensor([0]), torch.zeros(1, 3, 16, 16))
    assert codes.flatten(2).abs().sum(-1).nonzero().tolist() == [[0, 1]]
    seen = []
    part.decoder.register_forward_pre_hook(lambda _, planes: seen.append(planes[0]))
    part.decode(torch.zeros(1, 3, 16, 16), torch.tensor([0]), codes)
    assert torch.equal(seen[0][:, -2:], z)


def test_the_decoder_sees_the_frame_before_and_the_action():
    part, (before, action, after) = tokenizer(), transitions(2)
    tokens = torch.zeros(2, 4, dtype=torch.int64)
    shown = part.pixels(before, action, tokens)
    assert not torch.equal(shown, part.pixels(after, action, tokens))
    assert not torch.equal(shown, part.pixels(before, 1 - action, tokens))


@pytest.mark.parametrize("shape, tokens", [((16, 12, 3), 4), ((16, 16, 3), 3), ((15, 15, 3), 1), ((16, 16, 3), 9)])
def test_frames_and_tokens_that_do_not_fit_are_refused(shape, tokens):
    with pytest.raises(ValueError, match="change halves or tokens"):
        DeltaTokenizer(shape, 2, CosineQuantizer(7, 4), tokens=tokens, **SIZES)
