"""Images to tokens and back, and the networks on either side."""

import pytest
import torch
from torch import nn

from wmcomponents.nn import FSQ, VectorQuantizer, VQGANDecoder, VQGANEncoder
from wmcomponents.nn.conv.vqgan import group_norm
from wmcomponents.tokenizers import ImageDetokenizer, ImageTokenizer

SHAPE = (32, (1, 2, 1), 1, (1,), 8)


def tokenizer(quantizer=None):
    torch.manual_seed(0)
    part = VectorQuantizer(11, 6) if quantizer is None else quantizer
    return ImageTokenizer((16, 16, 3), VQGANEncoder(*SHAPE), VQGANDecoder(*SHAPE), part, features=8, grid=(4, 4))


def images(*lead):
    return torch.randint(256, (*lead, 16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("quantizer", [lambda: VectorQuantizer(11, 6), lambda: FSQ((3, 4, 2))])
def test_any_quantizer_makes_tokens_and_images_of_them(quantizer):
    part = tokenizer(quantizer())
    tokens, codes = part(images(2, 3))
    assert tokens.shape == (2, 3, 16) and codes.shape == (2, 3, 16, part.quantizer.dim)
    assert tokens.dtype is torch.int64 and 0 <= int(tokens.min()) and int(tokens.max()) < part.quantizer.codes
    torch.testing.assert_close(codes, part.quantizer.lookup(tokens))
    shown = part.pixels(tokens)
    assert shown.shape == (2, 3, 16, 16, 3) and shown.dtype is torch.uint8


def test_tokens_stand_row_by_row_of_the_grid():
    part = tokenizer()
    z = torch.zeros(1, 6, 4, 4)
    z[:, :, 1, 2] = part.quantizer.embedding.weight[5] * 100
    part.encoder, part.to_code = nn.Identity(), nn.Identity()
    far = part.tokenize(z).tokens[0]
    assert (far != far[0]).nonzero().tolist() == [[6]]
    part.quantizer.lookup = lambda tokens: torch.nn.functional.one_hot(tokens, 6).float()
    grid = torch.zeros(1, 16, dtype=torch.int64)
    grid[0, 6] = 5
    part.decoder, part.from_code = nn.Identity(), nn.Identity()
    assert part.decode(part.quantizer.lookup(grid))[0, 5].nonzero().tolist() == [[1, 2]]


def test_tokens_in_turns_are_tokens_at_once():
    part = tokenizer().eval()
    torch.nn.init.normal_(part.quantizer.embedding.weight)
    assert torch.equal(part.tokens(images(7), rows=3), part.tokens(images(7)))
    assert part.tokens(images(7)[:0]).shape == (0, 16)


def test_shown_images_are_clamped_and_rounded():
    part = tokenizer()
    tokens = torch.zeros(1, 16, dtype=torch.int64)
    part.decode = lambda codes: torch.linspace(-3, 3, 768).view(1, 3, 16, 16)
    unit = ((torch.linspace(-3, 3, 768) + 1) / 2).clamp(0, 1).mul(255).round().view(3, 16, 16).permute(1, 2, 0)
    assert torch.equal(part.pixels(tokens)[0], unit.to(torch.uint8))
    assert ImageDetokenizer(part)(tokens).min() < 0


def test_gradients_pass_the_codes_straight_through():
    part = tokenizer()
    tokens, codes, loss = part.tokenize(torch.rand(2, 3, 16, 16))
    assert loss.shape == (2,)
    part.decode(codes).sum().backward()
    assert part.to_code.weight.grad.abs().sum() > 0 and part.quantizer.embedding.weight.grad is None


def test_decoders_mirror_encoders_and_hold_one_block_more():
    encoder, decoder = VQGANEncoder(*SHAPE), VQGANDecoder(*SHAPE)
    x = torch.rand(2, 3, 16, 16)
    assert encoder(x).shape == (2, 8, 4, 4) and decoder(encoder(x)).shape == x.shape
    assert [len(level.block) for level in encoder.levels] == [1] * 3
    assert [len(level.block) for level in decoder.levels] == [2] * 3
    assert [len(level.attention) for level in encoder.levels] == [0, 1, 0]
    assert [len(level.attention) for level in decoder.levels] == [0, 2, 0]


def test_images_do_not_mix():
    encoder, x = VQGANEncoder(*SHAPE).eval(), torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(encoder(x)[1:2], encoder(x[1:2]), rtol=1e-4, atol=1e-4)


def test_group_norm_wants_its_groups_filled():
    with pytest.raises(ValueError, match="32 groups; got 24"):
        group_norm(24)
