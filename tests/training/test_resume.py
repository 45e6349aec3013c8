"""Checkpoints: whole or absent, and a run that goes on from one ends as if it had never stopped."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file
from tensordict import TensorDict
from tensordict.nn import TensorDictParams, dispatch
from torch import nn
from torchrl.objectives import LossModule

from tests.training import corridor
from wmcomponents.training import BadCheckpointError, Trainer

DRIVER = Path(__file__).with_name("killed_runs.py")


def killed_runs(folder, scenario, seed=0):
    command = [sys.executable, "-W", "ignore", str(DRIVER), str(folder), scenario, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["random", "adam"])
def test_a_run_killed_at_five_random_moments_ends_with_the_same_bits(tmp_path, scenario):
    result = killed_runs(tmp_path, scenario)
    assert result["kills"] == 5
    assert result["same_weights"]
    assert result["same_logs"]


@pytest.mark.slow
def test_a_run_killed_while_it_writes_a_checkpoint_ends_with_the_same_bits(tmp_path):
    result = killed_runs(tmp_path, "writing")
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
    sampling = fresh._sampling.get_state()
    with pytest.raises(BadCheckpointError, match=message):
        fresh.resume()
    assert same(before, weights(fresh.model)) and torch.equal(random, torch.get_rng_state())
    assert state == json.dumps(fresh.optimizer.state_dict(), default=str)
    assert torch.equal(sampling, fresh._sampling.get_state()) and fresh.steps == 0


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
        ({"lr": 1e-4}, "lr was 0.001, is 0.0001"),
        ({"warmup": 6}, "warmup was 5, is 6"),
    ],
)
def test_another_run_s_checkpoint_is_refused_by_its_settings(written, tmp_path, options, message):
    assert_refused_and_unchanged(tmp_path, message, **options)
    with pytest.raises(BadCheckpointError, match="belongs to another run"):
        trainer(tmp_path, **options)


def test_another_run_s_checkpoint_is_refused_by_its_config(written, tmp_path):
    assert_refused_and_unchanged(
        tmp_path, "config was .*horizon=333.*, is .*horizon=10", model=corridor.model(horizon=10)
    )


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
