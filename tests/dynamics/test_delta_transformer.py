"""A transformer over frames, actions and changes: what each slot says, what it sees, what it refuses."""

import pytest
import torch

from wmcomponents.dynamics import DeltaTransformer
from wmcomponents.nn import FrameDecoder, FrameEncoder

SIZES = {"tokens": 4, "max_blocks": 3, "layers": 2, "heads": 2, "features": 1, "mults": (1,), "halves": (True,)}


@pytest.fixture
def part():
    torch.manual_seed(0)
    part = DeltaTransformer(7, 3, (8, 8, 3), **SIZES).eval()
    for parameter in part.parameters():
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim == 2 else None
    return part


def sequence(rows=2, steps=3):
    generator = torch.Generator().manual_seed(0)
    frames, tokens = torch.randn(rows, steps, 16, generator=generator), torch.randint(7, (rows, steps, 4))
    return frames, torch.randint(3, (rows, steps), generator=generator), tokens


def told(part, *given):
    """Logits of tokens ``[N, T, K, V]``, of rewards and ends ``[N, T, .]``."""
    said = part.read(*given)
    return said.tokens.unflatten(1, (-1, 4)), said.reward, said.terminated


def first_changed(one, other):
    return (one != other).any(0).any(-1).flatten().nonzero()[0].item()


@pytest.mark.parametrize("step", [0, 1, 2])
def test_slots_say_what_follows_and_nothing_of_what_comes_after(part, step):
    frames, action, tokens = sequence()
    one = told(part, frames, action, tokens)
    assert one[0].shape == (2, 3, 4, 7) and one[1].shape == (2, 3, 3) and one[2].shape == (2, 3, 2)
    acted = action.clone()
    acted[:, step] = (action[:, step] + 1) % 3
    shown = frames.clone()
    shown[:, step] += 1.0
    for other in (told(part, frames, acted, tokens), told(part, shown, action, tokens)):
        assert first_changed(one[0], other[0]) == 4 * step
        assert first_changed(one[1], other[1]) == first_changed(one[2], other[2]) == step
    for k in range(3):
        changed = tokens.clone()
        changed[:, step, k] = (tokens[:, step, k] + 1) % 7
        other = told(part, frames, action, changed)
        assert first_changed(one[0], other[0]) == 4 * step + k + 1
        assert torch.equal(one[1][:, : step + 1], other[1][:, : step + 1])
    changed = tokens.clone()
    changed[:, 2, 3] = (tokens[:, 2, 3] + 1) % 7
    assert all(torch.equal(a, b) for a, b in zip(one, told(part, frames, action, changed), strict=True))


def test_the_size_of_embeddings_follows_from_the_frame(part):
    assert part.dim == 16 and part.kv_cache_shape == (2, 2, 2, 18, 8)
    pixels = torch.randint(256, (2, 3, 8, 8, 3), dtype=torch.uint8)
    assert part.frame_vector(pixels).shape == (2, 3, 16)
    z = part.frame_encoder(pixels[0].movedim(-1, 1) / 255)
    torch.testing.assert_close(part.frame_norm(z.movedim(1, -1).reshape(3, 16)), part.frame_vector(pixels)[0])


def test_a_sequence_longer_than_the_context_is_refused(part):
    with pytest.raises(ValueError, match="18 positions, 3 frames"):
        part.read(*sequence(steps=4))
    with pytest.raises(ValueError, match="at least two blocks"):
        DeltaTransformer(7, 3, (8, 8, 3), **{**SIZES, "max_blocks": 1})


def test_decoders_of_frames_mirror_encoders():
    levels = (32, (1, 1, 2), (True, False, True))
    encoder, decoder = FrameEncoder(7, 5, *levels), FrameDecoder(5, 3, *levels)
    z = encoder(torch.rand(2, 7, 16, 16))
    assert z.shape == (2, 5, 4, 4) and decoder(z).shape == (2, 3, 16, 16)
    torch.testing.assert_close(encoder(torch.ones(3, 7, 8, 8))[1:2], encoder(torch.ones(1, 7, 8, 8)))
    with pytest.raises(ValueError, match="one entry for each"):
        FrameEncoder(3, 5, 32, (1, 1), (True,))
