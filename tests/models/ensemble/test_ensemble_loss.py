"""Training an ensemble: each member as it would be alone, on rows of its own."""

import copy

import pytest
import torch
from torch.optim import SGD
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

from tests.support.small_batch import batch
from tests.support.small_dreamer import ACTION, SPEC, model
from wmcomponents.models import Ensemble, EnsembleLoss, WorldModels, all_rows, bootstrap_rows
from wmcomponents.optim import ClippedAdam, SideBySide
from wmcomponents.testing.toy import ToyWorldModel
from wmcomponents.training import Trainer
from wmcomponents.world_model import CapabilityError


def data(seed=0, rows=6):
    """Sequences of three numbers."""
    found = batch(seed, rows).exclude("board", ("next", "board"))
    found["observation"], found["next", "observation"] = (
        found["observation"][..., :3],
        found["next", "observation"][..., :3],
    )
    return found


def updated(loss, batches, optimizer):
    for step, sequences in enumerate(batches):
        loss.before_update(step)
        optimizer.zero_grad()
        out = loss(sequences)
        sum(value for key, value in out.items() if key.startswith("loss_")).backward()
        optimizer.step()
        loss.after_update(step)


def test_bootstrapped_rows_are_drawn_with_replacement():
    rows = bootstrap_rows(1000, torch.Generator().manual_seed(0))
    assert rows.shape == (1000,) and rows.min() >= 0 and rows.max() < 1000
    assert 600 < len(rows.unique()) < 660  # 1 - 1/e of them
    assert torch.equal(all_rows(5, torch.Generator()), torch.arange(5))


def test_every_member_learns_from_rows_of_its_own_in_every_batch():
    ensemble = Ensemble([model(k) for k in range(3)])
    seen = []
    loss = EnsembleLoss(
        ensemble, rows=lambda count, generator: seen.append(bootstrap_rows(count, generator)) or seen[-1]
    )
    loss(data()), loss(data())
    assert len(seen) == 6 and len({tuple(rows.tolist()) for rows in seen}) == 6
    first = [rows.tolist() for rows in seen]
    seen.clear()
    loss.generator.manual_seed(0), loss(data()), loss(data())
    assert [rows.tolist() for rows in seen] == first  # the order is the seed's


def test_losses_are_sums_over_members_and_each_gradient_is_the_members_own():
    ensemble = Ensemble([model(k) for k in range(2)])
    alone = [copy.deepcopy(member) for member in ensemble.members]
    loss = EnsembleLoss(ensemble, rows=all_rows)
    out = loss(data())
    sum(value for key, value in out.items() if key.startswith("loss_")).backward()
    shared, found = torch.Generator().manual_seed(0), []
    for member in alone:
        own = member.objective()
        own.generator = shared
        found.append(own(data()))
        sum(value for key, value in found[-1].items() if key.startswith("loss_")).backward()
    assert set(out.keys()) == set(found[0].keys()) == set(loss.out_keys)
    for key, value in out.items():
        both = torch.stack([one[key] for one in found])
        torch.testing.assert_close(value, both.sum() if key.startswith("loss_") else both.mean())
    for member, own in zip(ensemble.members, alone, strict=True):
        for mine, theirs in zip(member.parameters(), own.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad)


def test_members_with_equal_weights_come_apart_by_their_data_alone():
    ensemble = Ensemble([model(0), model(0)])
    loss = ensemble.objective()
    updated(loss, [data(0), data(1), data(2)], loss.make_optimizer(1e-2, 0))
    assert not all(map(torch.equal, ensemble.members[0].parameters(), ensemble.members[1].parameters()))


def test_optimisers_side_by_side_step_as_each_would_alone():
    torch.manual_seed(0)
    start = [torch.randn(3) for _ in range(2)]
    grads = [torch.tensor([100.0, 0, 0]), torch.tensor([0.1, 0.2, 0.3])]

    def made(values):
        weights = [torch.nn.Parameter(value.clone()) for value in values]
        return weights, [ClippedAdam([weights[0]], 0.1, max_norm=1.0), SGD([weights[1]], 0.5, momentum=0.9)]

    together, parts = made(start)
    apart, single = made(start)
    joint = SideBySide(parts)
    for step in range(4):
        for weights in (together, apart):
            for weight, grad in zip(weights, grads, strict=True):
                weight.grad = grad.clone()
        joint.step()
        [one.step() for one in single]
        if step == 1:  # saved, and loaded into another one
            saved = copy.deepcopy(joint.state_dict())
            joint = SideBySide(made([weight.detach() for weight in together])[1])
            together = [group["params"][0] for group in joint.param_groups]
            joint.load_state_dict(saved)
    torch.testing.assert_close(together, apart)
    with pytest.raises(ValueError, match="more than one parameter group"):
        SideBySide([SGD([apart[0]], 0.1), SGD([apart[0]], 0.1)])


def test_members_with_stages_enter_them_together():
    torch.manual_seed(0)
    ensemble = Ensemble.of(lambda: WorldModels("tiny", SPEC, ACTION), members=2)
    loss = ensemble.objective()
    loss.before_update(0)
    assert "loss_kl" in loss(data()).keys() and "loss_kl" in loss.out_keys
    loss.before_update(10**6)
    assert "loss_mixture" in loss(data()).keys() and "loss_mixture" in loss.out_keys


def test_a_member_without_an_objective_is_told_so():
    ensemble = Ensemble([ToyWorldModel(SPEC, ACTION, seed=k) for k in range(2)])
    with pytest.raises(CapabilityError, match="no training objective"):
        ensemble.objective()


def test_keys_are_renamed_in_every_member():
    loss = Ensemble([model(k) for k in range(2)]).objective()
    loss.set_keys(reward="pay")
    renamed = data()
    renamed["next", "pay"] = renamed["next"].pop("reward")
    assert loss(renamed)["loss_reward"].isfinite()


def test_a_run_that_was_stopped_goes_on_to_the_bit(tmp_path):
    def trained(steps, out):
        torch.manual_seed(0)
        ensemble = Ensemble([model(0), model(1)])
        replay = TensorDictReplayBuffer(storage=LazyTensorStorage(20), batch_size=4)
        replay.extend(data(0, 20))
        trainer = Trainer(ensemble, replay, lr=1e-3, warmup=0, out=out, progress=False)
        trainer.train(steps)
        return ensemble

    whole = trained(4, tmp_path / "whole")
    trained(2, tmp_path / "parts")
    parts = trained(4, tmp_path / "parts")
    assert all(map(torch.equal, whole.state_dict().values(), parts.state_dict().values()))
