import functools
import itertools
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torchrl.data import Bounded, Composite, OneHot

from tests.support.golden_vectors import load
from tests.support.ranks import run_ranks
from tests.support.small_batch import batch
from wmcomponents.models import IRIS, IRISConfig
from wmcomponents.nn import (
    CachedTransformer,
    ContiguousLayout,
    RingAttention,
    RoPE,
    SequenceMask,
    StripedLayout,
    ZigzagLayout,
    dot_product_attention,
    feed_forward_blockwise_,
    sequence_parallel_,
    use_attention_,
)
from wmcomponents.nn.attention import ring_attention

LAYOUTS = {"contiguous": ContiguousLayout(), "striped": StripedLayout(), "zigzag": ZigzagLayout()}
LENGTH = 24
SEGMENTS = torch.tensor([0] * 7 + [1] * 12 + [2] * 5).expand(2, -1)
REAL = torch.ones(2, LENGTH, dtype=torch.bool).index_fill(1, torch.tensor([3, 9, 10, 23]), False)
MASKS = {
    "full": None,
    "causal": SequenceMask(block=1),
    "block-causal": SequenceMask(block=4),
    "segments": SequenceMask(segments=SEGMENTS),
    "causal-segments": SequenceMask(block=1, segments=SEGMENTS),
    "everything": SequenceMask(block=3, segments=SEGMENTS, keys=REAL),
    "table": torch.rand(2, 1, LENGTH, LENGTH, generator=torch.Generator().manual_seed(1)) < 0.4,
    "numbers": torch.randn(LENGTH, LENGTH, generator=torch.Generator().manual_seed(2)),
    "of-keys": torch.randn(2, 1, 1, LENGTH, generator=torch.Generator().manual_seed(3)),
}
CASES = list(itertools.product(MASKS, LAYOUTS))
GOLDEN = {
    "full": (None, False),
    "causal": (1, False),
    "block_causal4": (4, False),
    "causal_segments": (1, True),
    "causal_segments_padding": (1, True),
}
IMAGE = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))


def golden():
    _, v = load("ring_attention")
    q, k, value, cotangent = (v[f"input.{name}"].transpose(1, 2) for name in ("q", "k", "v", "cotangent"))
    return v, (q, k, value), cotangent


def golden_mask(name, v):
    block, has_segments = GOLDEN[name]
    keys = v["input.key_mask"].bool() if name.endswith("padding") else None
    return SequenceMask(block, v["input.segment_ids"] if has_segments else None, keys)


def with_gradients(attention, tensors, cotangent, mask):
    leaves = [x.detach().clone().requires_grad_() for x in tensors]
    out = attention(*leaves, mask)
    return [out.detach(), *torch.autograd.grad(out, leaves, cotangent)]


def inputs():
    drawn = torch.randn(4, 2, 2, LENGTH, 8, generator=torch.Generator().manual_seed(0))
    return drawn[:3].unbind(0), drawn[3]


def network():
    torch.manual_seed(0)
    return CachedTransformer(1, dim=8, heads=2, rope=RoPE(4))


def trained(net, mask):
    """Output, and gradients of all parameters and of the input."""
    x = torch.randn(2, LENGTH, 8, generator=torch.Generator().manual_seed(4)).requires_grad_()
    out = net(x, mask)
    out.square().sum().backward()
    return [out.detach(), x.grad, *(p.grad for p in net.parameters())]


def iris():
    torch.manual_seed(0)
    model = IRIS(IRISConfig.tiny(layers=1, dim=16, heads=2, max_frames=8, grid=2, vocabulary=8), IMAGE, OneHot(2))
    return model.train()


def curve(model, updates=3):
    loss = model.objective()
    loss.stage = "transformer"
    optimizer = torch.optim.SGD(model.dynamics.parameters(), lr=0.5)
    found = []
    for _ in range(updates):
        out = loss(frames())
        total = sum(value for key, value in out.items() if key.startswith("loss_"))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        found.append(total.item())
    return found


def frames():
    steps = batch(0, 2, 8)
    pixels = torch.randint(0, 256, (2, 9, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    steps["pixels"], steps["next", "pixels"] = pixels[:, :-1], pixels[:, 1:]
    return steps


def work(rank, count):
    """All that processes are asked for, in one go: they are costly to start."""
    dist.init_process_group("gloo")
    found = {}

    def share(x, layout):
        return x[..., layout.positions(rank, count, x.shape[-2]), :]

    v, tensors, cotangent = golden()
    plain = LAYOUTS["contiguous"]
    for name in GOLDEN:
        ring = RingAttention(query_chunk=4, key_chunk=4)
        own = [share(x, plain) for x in tensors]
        found["golden", name] = with_gradients(ring, own, share(cotangent, plain), golden_mask(name, v))
    found["decoded"] = decoded(rank, count, v)
    if count == 4:
        carries = []

        def recording(*given, **named):
            carries.append(absorb(*given, **named))
            return carries[-1]

        absorb = ring_attention.absorb
        with mock.patch.object(ring_attention, "absorb", recording):
            RingAttention()(*(share(x, plain) for x in tensors), SequenceMask(block=1))
        found["carries"] = [tuple(carry) for carry in carries]
    tensors, cotangent = inputs()
    for mask, layout in CASES:
        ring = RingAttention(LAYOUTS[layout], key_chunk=5)
        own = [share(x, ring.layout) for x in tensors]
        found[mask, layout] = with_gradients(ring, own, share(cotangent, ring.layout), MASKS[mask])
    for name, layout in LAYOUTS.items():
        net = network()
        feed_forward_blockwise_(net, 4)
        sequence_parallel_(net, RingAttention(layout))
        found["network", name] = trained(net, MASKS["causal-segments"])
    model = iris()
    ring = RingAttention(StripedLayout() if count == 2 else ZigzagLayout(), query_chunk=8, key_chunk=8)
    sequence_parallel_(model.dynamics.transformer, ring)
    found["iris"] = curve(model)
    uneven = network()
    sequence_parallel_(uneven, RingAttention())
    with pytest.raises(ValueError, match=f"multiple of {count}; got 7"):
        uneven(torch.zeros(1, 7, 8))
    with pytest.raises(ValueError, match=f"ZigzagLayout shares .* multiple of {2 * count}; got {3 * count}"):
        RingAttention(ZigzagLayout())(*torch.zeros(3, 1, 1, 3, 4))
    with pytest.raises(ValueError, match=f"the whole sequence, {2 * count} keys"):
        RingAttention()(*torch.zeros(3, 1, 1, 2, 4), torch.ones(2, 2, dtype=torch.bool))
    dist.destroy_process_group()
    return found


def decoded(rank, count, v):
    """The query at position 19 over a cache that the processes hold together, written position by position."""
    q, k, value = (v[f"input.{name}"].transpose(1, 2) for name in ("q", "k", "v"))
    ring = RingAttention(ZigzagLayout(), key_chunk=3)
    keys, values = torch.full((2, 2, 2, 32 // count, 8), torch.nan)
    for cache, new in ((keys, k), (values, value)):
        for start in range(0, 32, 8):
            ring.write(cache, new[..., start : start + 8, :], start, 32)
    rules = SequenceMask(1, v["input.segment_ids"])
    table = torch.arange(32) <= 19
    return {
        "rules": ring.decode(q[..., 19:20, :], keys, values, SequenceMask(block=1), position=19),
        "table": ring.decode(q[..., 19:20, :], keys, values, table.view(1, 1, 1, 32)),
        "segments": ring.decode(q[..., 16:19, :], keys, values, rules, position=16),
    }


@functools.cache
def ranks(count):
    golden()  # skips where the vector is absent
    return run_ranks(lambda rank: work(rank, count), count)


def joined(case, layout, count, length):
    """What the processes have found, as one sequence in its own order."""
    back = LAYOUTS[layout].inverse(count, length)
    return [torch.cat(parts, -2)[..., back, :] for parts in zip(*(one[case] for one in ranks(count)), strict=True)]


def close(found, wanted, tolerance=1e-5):
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("name", GOLDEN)
def test_outputs_and_gradients_are_those_of_the_papers_code(name, count):
    v, *_ = golden()
    out, *gradients = joined(("golden", name), "contiguous", count, 32)
    if name.endswith("padding"):  # the paper's rows that see nothing give a mean of values; ours give 0
        sees = v[f"row_has_visible_key.{name}"].bool()
        assert (out.transpose(1, 2)[~sees] == 0).all()
        close([out.transpose(1, 2)[sees]], [v[f"output.{name}"][sees]])
        return
    wanted = [v[f"output.{name}"], *(v[f"grad.{name}.d{x}"] for x in "qkv")]
    close([x.transpose(1, 2) for x in (out, *gradients)], wanted)


def test_what_the_third_of_four_ranks_knows_after_each_step_is_as_in_the_papers_code():
    v, *_ = golden()
    carries = ranks(4)[2]["carries"]
    assert len(carries) == 3  # the last shard is all future, and is skipped
    for step, (numerator, denominator, maximum) in enumerate([*carries, carries[-1]]):
        at = f"carry.dev2.step{step}"
        close(
            [numerator.transpose(1, 2), denominator, maximum],
            [v[f"{at}.numerator"], v[f"{at}.denominator"], v[f"{at}.max_score"]],
        )


@pytest.mark.parametrize("count", [2, 4])
def test_single_queries_look_at_a_shared_cache_as_in_the_papers_code(count):
    v, (q, k, value), _ = golden()
    for found in (one["decoded"] for one in ranks(count)):
        for name in ("rules", "table"):
            close([found[name].transpose(1, 2)], [v["output.inference_row19"]])
        whole = dot_product_attention(q, k, value, SequenceMask(1, v["input.segment_ids"]))
        close([found["segments"]], [whole[..., 16:19, :]])


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(("mask", "layout"), CASES)
def test_processes_give_what_one_gives_for_every_mask_and_layout(mask, layout, count):
    tensors, cotangent = inputs()
    close(
        joined((mask, layout), layout, count, LENGTH),
        with_gradients(dot_product_attention, tensors, cotangent, MASKS[mask]),
    )


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_transformer_shared_by_processes_has_one_process_outputs_and_gradients(layout, count):
    wanted = trained(network(), MASKS["causal-segments"])
    for one in ranks(count):
        close(one["network", layout], wanted)


@pytest.mark.parametrize("count", [2, 4])
def test_a_world_model_learns_the_same_with_it(count):
    wanted = curve(iris())
    assert wanted[-1] < wanted[0] - 0.1
    for one in ranks(count):
        assert one["iris"] == pytest.approx(wanted, abs=1e-5)


# -- alone -------------------------------------------------------------------------------------------------------------


def test_gradients_are_exact_with_dropout_too():
    tensors = [torch.randn(1, 1, 6, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    ring = RingAttention(query_chunk=4, key_chunk=2)

    def seeded(q, k, v):
        torch.manual_seed(7)
        return ring(q, k, v, SequenceMask(block=2), 0.4)

    assert torch.autograd.gradcheck(seeded, tensors)
    assert not torch.allclose(seeded(*tensors), ring(*tensors, SequenceMask(block=2)))


def test_dropout_leaves_the_mean_and_drops_its_share():
    q, v = torch.zeros(1, 1, 200, 1), torch.ones(1, 1, 200, 1)
    out = RingAttention(query_chunk=70, key_chunk=64)(q, q, v, dropout=0.25)
    assert out.mean().item() == pytest.approx(1.0, abs=0.01)
    assert out.var().item() == pytest.approx(0.25 / 0.75 / 200, rel=0.3)


def test_half_precision_is_carried_in_float32():
    q, k, v = torch.randn(3, 1, 2, 64, 16).bfloat16().unbind(0)
    wanted = dot_product_attention(q.float(), k.float(), v.float())
    found = RingAttention(query_chunk=16, key_chunk=4)(q, k, v)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, wanted.bfloat16()) or (found.float() - wanted).abs().max() < 4e-3


def test_huge_scores_stay_finite():
    q = torch.tensor([-1e18, 1e18]).view(1, 1, 2, 1)
    out = RingAttention(key_chunk=1)(q, q, torch.tensor([1.0, 2.0]).view(1, 1, 2, 1), SequenceMask(block=1))
    assert out.flatten().tolist() == [1.0, 2.0]


@pytest.mark.parametrize("layout", LAYOUTS.values())
def test_layouts_share_all_positions_and_come_back(layout):
    order = layout.order(3, 12)
    assert sorted(order.tolist()) == list(range(12))
    assert torch.equal(order[layout.inverse(3, 12)], torch.arange(12))
    assert torch.equal(order.view(3, 4)[1], layout.positions(1, 3, 12))


def test_balanced_layouts_share_the_work_of_a_causal_mask():
    def pairs(layout):
        mask, share = SequenceMask(block=1), [layout.positions(rank, 4, 64) for rank in range(4)]
        return [int(mask.table(64)[own].sum()) for own in share]

    assert max(pairs(ContiguousLayout())) > 6 * min(pairs(ContiguousLayout()))
    assert max(pairs(StripedLayout())) < 1.1 * min(pairs(StripedLayout()))
    assert len(set(pairs(ZigzagLayout()))) == 1


def test_what_is_not_seen_is_not_computed():
    ring = RingAttention(query_chunk=2, key_chunk=2)
    q, k, v = torch.randn(3, 1, 1, 8, 4).unbind(0)
    with mock.patch.object(ring_attention, "absorb", wraps=ring_attention.absorb) as absorb:
        ring(q, k, v, SequenceMask(block=1))
        assert absorb.call_count == 10  # of 16 pairs of chunks
        ring(q, k, v)
        assert absorb.call_count == 26


def test_a_way_of_looking_is_exchanged_and_taken_back_with_the_weights_names_as_they_were():
    net, x = network(), torch.randn(1, 5, 8)
    names, before = list(net.state_dict()), net(x, SequenceMask(block=1))
    undo = sequence_parallel_(net, RingAttention(key_chunk=2))
    feed_forward_blockwise_(net, 2)
    close([net(x, mask=SequenceMask(block=1), position=torch.arange(5))], [before])
    assert list(net.state_dict()) == names
    undo()
    assert torch.equal(net(x, SequenceMask(block=1)), before) or torch.allclose(
        net(x, SequenceMask(block=1)), before, atol=1e-6
    )
    assert all(block.attention.attend is dot_product_attention for block in net.blocks)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: RingAttention(query_chunk=0), "at least one position"),
        (lambda: SequenceMask(block=0), "at least one position"),
        (lambda: use_attention_(torch.nn.Linear(1, 1)), "holds no MultiHeadAttention"),
        (lambda: feed_forward_blockwise_(torch.nn.Linear(1, 1), 2), "holds no TransformerBlock"),
        (lambda: feed_forward_blockwise_(network(), 0), "at least one position"),
        (lambda: RingAttention()(*torch.zeros(3, 1, 1, 2, 4), SequenceMask(segments=torch.zeros(3))), "got 3"),
        (lambda: RingAttention()(torch.zeros(1, 1, 1, 4), *torch.zeros(2, 1, 1, 2, 4)), "decode"),
        (lambda: RingAttention().decode(*torch.zeros(3, 1, 1, 2, 4), SequenceMask(block=1)), "position=..."),
        (lambda: RingAttention().write(torch.zeros(1, 4, 2), torch.zeros(1, 2, 2), 3, 4), "positions 0 to 3"),
        (lambda: StripedLayout().order(2, 5), "multiple of 2; got 5"),
        (lambda: ZigzagLayout().order(2, 6), "multiple of 4; got 6"),
    ],
)
def test_what_cannot_be_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        wrong()
