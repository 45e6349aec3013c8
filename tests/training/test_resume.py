"""Checkpoints: whole or absent, and a run that goes on from one ends as if it had never stopped."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file
from tensordict import TensorDict
from tensordict.nn import TensorDictParams, dispatch
from torch import nn
from torchrl.objectives import LossModule

from tests.support import corridor
from wmcomponents.training import BadCheckpointError, ConstantThenDecay, Trainer, checkpoint

DRIVER = Path(__file__).parents[1] / "support" / "killed_runs.py"


@pytest.fixture
def killed_runs(warm, tmp_path):
    def run(scenario, seed=0):
        done = warm.run(DRIVER, tmp_path, scenario, seed)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["random", "adam"])
def test_a_run_killed_at_five_random_moments_ends_with_the_same_bits(killed_runs, scenario):
    result = killed_runs(scenario)
    assert result["kills"] == 5
    assert result["same_weights"]
    assert result["same_logs"]


@pytest.mark.slow
def test_a_run_killed_while_it_writes_a_checkpoint_ends_with_the_same_bits(killed_runs):
    result = killed_runs("writing")
    assert result["kills"] == 2
    assert result["same_weights"]
    assert result["files"] == ["checkpoint.safetensors", "logs", "weights.sha256"]


def trainer(out, model=None, **options):
    model = corridor.model() if model is None else model
    return Trainer(model, corridor.replay(), out=out, progress=False, **{"lr": 1e-3, "warmup": 5, **options})


def weights(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def written(tmp_path):
    one = trainer(tmp_path)
    one.train(4)
    return one


def assert_refused_and_unchanged(out, message, **options):
    """The trainer refuses the checkpoint, and what it was given is as before."""
    path = out / "checkpoint.safetensors"
    kept = out / "aside"
    path.rename(kept)
    fresh = trainer(out, **options)
    fresh.train(1) if fresh.steps else None
    kept.rename(path)
    before, random = weights(fresh.model), torch.get_rng_state()
    state = json.dumps(fresh.optimizer.state_dict(), default=str)
    sampling = fresh.sampling.get_state()
    with pytest.raises(BadCheckpointError, match=message):
        fresh.resume()
    assert same(before, weights(fresh.model)) and torch.equal(random, torch.get_rng_state())
    assert state == json.dumps(fresh.optimizer.state_dict(), default=str)
    assert torch.equal(sampling, fresh.sampling.get_state()) and fresh.steps == 0


def test_going_on_in_the_same_process_is_the_same_as_never_stopping(tmp_path):
    whole, halves = trainer(tmp_path / "whole"), trainer(tmp_path / "halves")
    assert whole.train(9) and halves.train(5)
    again = trainer(tmp_path / "halves")
    assert again.steps == 5
    assert again.train(9) == whole.losses
    assert same(weights(whole.model), weights(again.model))


@pytest.mark.parametrize("place", [0.0, 0.01, 0.3, 0.7, 0.999])
def test_a_cut_off_checkpoint_is_refused(written, tmp_path, place):
    data = written.checkpoint.read_bytes()
    written.checkpoint.write_bytes(data[: int(place * len(data))])
    assert_refused_and_unchanged(tmp_path, "damaged")


@pytest.mark.parametrize("number", range(12))
def test_a_flipped_bit_is_refused(written, tmp_path, number):
    data = bytearray(written.checkpoint.read_bytes())
    draw = torch.Generator().manual_seed(number)
    data[int(torch.randint(len(data), (1,), generator=draw))] ^= 1 << int(torch.randint(8, (1,), generator=draw))
    written.checkpoint.write_bytes(data)
    assert_refused_and_unchanged(tmp_path, "checkpoint")


def test_a_safetensors_file_that_is_no_checkpoint_is_refused(written, tmp_path):
    save_file({"a": torch.zeros(2)}, written.checkpoint)
    assert_refused_and_unchanged(tmp_path, "is damaged, or is not a checkpoint")


def test_changed_weights_are_refused_though_the_file_is_well_formed(written, tmp_path):
    tensors = load_file(written.checkpoint)
    with safe_open(written.checkpoint, "pt") as file:
        metadata = file.metadata()
    next(iter(tensors.values())).add_(1.0)
    save_file(tensors, written.checkpoint, metadata)
    assert_refused_and_unchanged(tmp_path, "does not match its hash")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"accumulate": 2}, "accumulate was 1, is 2"),
        ({"precision": "bf16"}, "precision was 'float32', is 'bf16'"),
        ({"schedule": ConstantThenDecay(3)}, "schedule was None, is 'ConstantThenDecay"),
    ],
)
def test_another_run_s_checkpoint_is_refused_by_its_settings(written, tmp_path, options, message):
    assert_refused_and_unchanged(tmp_path, message, **options)
    with pytest.raises(BadCheckpointError, match="belongs to another run"):
        trainer(tmp_path, **options)


@pytest.mark.parametrize(("options", "rate", "warmup"), [({"lr": 1e-4}, 1e-4, 5), ({"warmup": 200}, 1e-3, 200)])
def test_a_run_may_go_on_with_another_rate_or_warm_up(written, tmp_path, options, rate, warmup):
    again = trainer(tmp_path, **options)
    assert again.steps == 4 and same(weights(again.model), weights(written.model))
    again.train(6)
    assert [again.optimizer.param_groups[0][key] for key in ("lr", "warmup")] == [rate, warmup]
    third = trainer(tmp_path, **options)  # and is then the run that it is
    assert third.optimizer.param_groups[0]["lr"] == rate and third.steps == 6


def test_an_optimizer_of_one_s_own_may_get_another_rate_but_no_other_options(tmp_path):
    def build(**options):
        model = corridor.model()
        return trainer(tmp_path, model=model, optimizer=torch.optim.Adam(model.parameters(), **options))

    build(lr=1e-3).train(2)
    again = build(lr=1e-4)
    again.train(3)
    assert again.optimizer.param_groups[0]["lr"] == 1e-4
    with pytest.raises(BadCheckpointError, match=r"the optimizer's betas was \[0.9, 0.999\], is \[0.5, 0.999\]"):
        build(lr=1e-4, betas=(0.5, 0.999))


def test_a_rate_that_a_scheduler_of_one_s_own_has_changed_is_kept(tmp_path):
    def build():
        model = corridor.model()
        return trainer(tmp_path, model=model, optimizer=torch.optim.SGD(model.parameters(), 0.1))

    one = build()
    one.optimizer.param_groups[0]["lr"] = 0.05
    one.train(1)
    assert build().optimizer.param_groups[0]["lr"] == 0.05


def rewritten(path, change):
    """Change a bundle's tensors and metadata, and seal it again."""
    tensors, metadata = checkpoint.read_tensors(path)
    change(tensors, metadata)
    metadata["sha256"] = checkpoint.digest_of(tensors, metadata)
    save_file(tensors, path, metadata)


def test_a_run_that_began_on_a_gpu_goes_on_here_with_other_noise(written, tmp_path):
    def move(tensors, metadata):
        tensors["rng/cuda"] = torch.arange(16, dtype=torch.uint8)
        tensors["rng/objective"] = torch.arange(1, 17, dtype=torch.uint8)
        metadata["run"] = metadata["run"].replace('"device": "cpu"', '"device": "cuda"')

    rewritten(written.checkpoint, move)
    ends = []
    for _ in range(2):
        with pytest.warns(UserWarning, match="began on another kind of device: it goes on on cpu"):
            again = trainer(tmp_path)
        assert again.steps == 4 and same(weights(again.model), weights(written.model))
        ends.append(again.update(corridor.replay(seed=5).sample())["kl"])
    assert torch.equal(*ends)


def test_a_field_that_the_config_has_got_since_is_no_other_run(written, tmp_path):
    rewritten(written.checkpoint, lambda _, metadata: metadata.update(run=metadata["run"].replace('"units":', '"_":')))
    assert trainer(tmp_path).steps == 4


def test_a_checkpoint_much_larger_than_the_run_is_refused_before_it_is_read(written, tmp_path):
    with open(written.checkpoint, "r+b") as file:
        file.truncate(2**40)
    assert_refused_and_unchanged(tmp_path, "far more than this model and its optimizer")


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_what_is_no_file_is_no_checkpoint_and_is_not_begun_over(written, tmp_path, kind):
    path = written.checkpoint
    path.rename(tmp_path / "elsewhere")
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(path)
    with pytest.raises(BadCheckpointError, match="it is not a file"):
        trainer(tmp_path)


def test_another_run_s_checkpoint_is_refused_by_its_config(written, tmp_path):
    assert_refused_and_unchanged(tmp_path, "config.network.horizon was 333, is 10", model=corridor.model(horizon=10))


def test_of_long_lists_a_refusal_names_the_entry_that_differs():
    sizes = [[[32, 3, 3, 3]] * 40, [[8, 8]] * 40]
    other = [sizes[0], [[8, 8]] * 39 + [[8, 9]]]
    assert checkpoint.changes({"sizes": sizes}, {"sizes": other}) == ["sizes[1][39] was [8, 8], is [8, 9]"]
    assert checkpoint.changes({"sizes": sizes}, {"sizes": sizes[:1]}) == ["sizes had 2 entries, has 1"]
    assert checkpoint.changes({"betas": [0.9]}, {"betas": [0.8]}) == ["betas was [0.9], is [0.8]"]


def test_another_run_s_checkpoint_is_refused_by_its_sizes(written, tmp_path):
    assert_refused_and_unchanged(tmp_path, "belongs to another run", model=corridor.model(deter=64))


def test_another_optimizer_s_checkpoint_is_refused(written, tmp_path):
    model = corridor.model()
    options = {"model": model, "optimizer": torch.optim.Adam(model.parameters())}
    assert_refused_and_unchanged(tmp_path, "optimizer was 'LaProp', is 'Adam'", **options)


def test_another_objective_s_checkpoint_is_refused(written, tmp_path):
    model = corridor.model()
    assert_refused_and_unchanged(tmp_path, "objective was", model=model, objective=NextObservation(model))


def test_there_is_no_checkpoint_without_a_folder():
    with pytest.raises(ValueError, match="build it with out=FOLDER"):
        trainer(None).save()


def test_resuming_from_nothing_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint at"):
        trainer(tmp_path).resume()


def test_an_optimizer_with_options_that_are_no_numbers_is_named(tmp_path):
    model = corridor.model()
    one = trainer(tmp_path, model=model, optimizer=torch.optim.SGD(model.parameters(), torch.tensor(0.1)))
    with pytest.raises(TypeError, match="the state of SGD cannot be kept"):
        one.train(1)


class NextObservation(LossModule):
    """A third party's objective: global noise, a running mean of its own, and a target network."""

    world_model: nn.Module
    world_model_params: TensorDictParams
    target_world_model_params: TensorDictParams

    def __init__(self, world_model):
        super().__init__()
        self.in_keys = ["observation", ("next", "observation")]
        self.out_keys = ["loss_next"]
        self.convert_to_functional(world_model, "world_model", create_target_params=True)
        self.register_buffer("scale", torch.ones(()))

    @dispatch
    def forward(self, tensordict):
        with self.world_model_params.to_module(self.world_model):
            embed = self.world_model.encoder.embed({"observation": tensordict["observation"]})
        with torch.no_grad(), self.target_world_model_params.to_module(self.world_model):
            aim = self.world_model.encoder.embed({"observation": tensordict["next", "observation"]})
        error = embed + 0.1 * torch.randn_like(embed) - aim
        with torch.no_grad():
            self.scale.mul_(0.9).add_(0.1 * error.std())
        return TensorDict({"loss_next": (error / self.scale).square().mean()})


@pytest.mark.filterwarnings("ignore:No target network updater has been associated")
def test_a_third_party_objective_resumes_with_its_own_tensors_and_global_noise(tmp_path):
    def run(out, steps):
        model = corridor.model()
        one = trainer(
            out, model=model, objective=NextObservation(model), optimizer=torch.optim.Adam(model.parameters())
        )
        one.train(steps)
        return one

    whole = run(tmp_path / "whole", 8)
    run(tmp_path / "halves", 3)
    torch.rand(7)  # the global generator is put back where it was
    again = run(tmp_path / "halves", 8)
    assert same(weights(whole.objective), weights(again.objective))
    assert not torch.equal(whole.objective.scale, torch.ones(()))
