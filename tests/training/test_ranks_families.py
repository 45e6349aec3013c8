"""Families with phases, batch normalisation, or stages and codebooks: two processes against the doubled batch."""

import contextlib
from unittest import mock

import pytest
import torch
import torch.distributed.fsdp  # once for all processes that are forked
from tensordict import TensorDict

from tests.support.drive import actions
from tests.support.models import MODELS
from tests.support.ranks import GivenBatches, even_draws, run_ranks
from wmcomponents.training import Ranks, Trainer

ROWS, TIME, UPDATES = 2, 12, 3
FAMILIES = ("td-mpc2", "muzero-two-players", "iris")
PLAIN = ("planet", "dreamer-v1", "dreamer-v2", "dreamer-v3", "world-models", "delta-iris", "diamond")
PAIRS = [*((name, kind) for name in FAMILIES for kind in ("ddp", "fsdp")), *((name, "ddp") for name in PLAIN)]


@contextlib.contextmanager
def even_choices():
    """Noise and choices that are the same for every row."""

    def randint(*bounds, generator=None, dtype=torch.int64, device=None):
        *low, _, shape = bounds
        return torch.full(tuple(shape), int(low[0]) if low else 0, dtype=dtype, device=device)

    with even_draws(), mock.patch.object(torch, "randint", randint):
        yield


def share(model, seed):
    """Sequences with ends, so that the weights of two shares differ."""
    torch.manual_seed(seed)
    shown = model.observation_spec.expand(ROWS, TIME + 1).rand().to_dict()
    done = torch.rand(ROWS, TIME, 1) < 0.15
    terminated = done & (torch.rand(ROWS, TIME, 1) < 0.5)
    following = {key: value[:, 1:] for key, value in shown.items()}
    following |= {"terminated": terminated, "truncated": done & ~terminated, "done": done}
    content = {key: value[:, :-1] for key, value in shown.items()}
    content |= {"action": actions(model, ROWS, TIME, seed=seed)}
    content["is_init"] = torch.cat([torch.ones_like(done[:, :1]), done[:, :-1]], 1)
    content["next"] = {**following, "reward": torch.randn(ROWS, TIME, 1).sign()}
    return TensorDict(content, [ROWS, TIME])


def learned(name, pick, **options):
    """The losses of a few updates, and the weights."""
    torch.manual_seed(0)
    model = dict(MODELS)[name]()
    batches = [pick([share(model, 2 * number), share(model, 2 * number + 1)]) for number in range(UPDATES)]
    with even_choices():
        replay = GivenBatches(lambda number: batches[number % UPDATES])
        trainer = Trainer(model, replay, lr=1e-3, warmup=0, progress=False, **options)
        trainer.prepare()
        trainer.share()
        model.train()
        found = [trainer.look([trainer.update(batch)]) for batch in batches]
    losses = [{key: value for key, value in one.items() if key.startswith("loss_")} for one in found]
    return losses, dict(model.state_dict())


@pytest.mark.weekly
@pytest.mark.parametrize(("name", "parallel"), PAIRS)
def test_two_processes_learn_as_one_with_the_doubled_batch(name, parallel):
    losses, weights = learned(name, torch.cat, ranks=Ranks())
    for found, own in run_ranks(lambda rank: learned(name, lambda two: two[rank], parallel=parallel)):
        for one, other in zip(found, losses, strict=True):
            assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
        for key, value in weights.items():
            torch.testing.assert_close(own[key], value, rtol=1e-3, atol=5e-4, msg=key)
