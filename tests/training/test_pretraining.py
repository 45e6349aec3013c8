"""Encoders are pretrained by the trainer of world models: to the bit, watched for collapse, and off wrong data."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite

from tests.support.ranks import GivenBatches, run_ranks
from wmcomponents.data import DrawMasks, OtherDataError, from_arrays
from wmcomponents.functional import RandomMasks
from wmcomponents.models import PRETRAINING, JEPALoss, ViTConfig, make_model, make_pretraining
from wmcomponents.objectives import collapse_probes
from wmcomponents.training import BadCheckpointError, Ranks, Trainer

SIZES = {
    "MAE": {"decoder": ViTConfig(8, 1, 2, 16)},
    "IJEPA": {"predictor": ViTConfig(8, 1, 2, 16), "least": 1},
    "VJEPA": {"predictor": ViTConfig(12, 1, 2, 16), "frames": 2, "blocks": (2, 1), "scales": (0.2, 0.5)},
}
SPEC = Composite(pixels=Bounded(0, 255, (16, 16, 3), dtype=torch.uint8))


def model_of(family):
    torch.manual_seed(0)
    patch = (2, 4, 4) if family == "VJEPA" else 4
    return make_pretraining(family, "tiny", SPEC, encoder=ViTConfig(24, 1, 2, 32), patch=patch, **SIZES[family])


def replay_of(model, length=None, size=16, masks=None):
    generator = torch.Generator().manual_seed(0)
    films = [torch.randint(256, (21, size, size, 3), dtype=torch.uint8, generator=generator) for _ in range(2)]
    steps = {"sequence_length": length or model.frames, "batch_size": 3, "seed": 0, "print_fn": None}
    replay = from_arrays(films, [torch.zeros(20, 1)] * 2, **steps)
    replay.append_transform(DrawMasks(model.masks() if masks is None else masks))
    return replay


def trainer_of(family, **options):
    model = model_of(family)
    return Trainer(model, replay_of(model), progress=False, lr=1e-3, warmup=1, **options)


@pytest.mark.parametrize("family", PRETRAINING)
def test_a_run_that_goes_on_ends_with_the_same_bits_masks_and_average_included(family, tmp_path):
    whole = trainer_of(family, out=tmp_path / "whole")
    whole.train(4)
    trainer_of(family, out=tmp_path / "parted").train(2)
    torch.rand(5)  # what else the process draws
    parted = trainer_of(family, out=tmp_path / "parted")
    assert parted.steps == 2
    parted.train(4)
    for one, other in ((whole.model, parted.model), (whole.objective, parted.objective)):
        state = other.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in one.state_dict().items())
    assert not parted.model.training


def test_the_logs_tell_of_a_collapse_beside_the_loss(tmp_path):
    found = trainer_of("IJEPA", out=tmp_path, logger="csv", log_every=2)
    found.train(3)
    logged = {file.stem: file for file in (tmp_path / "logs" / "scalars").rglob("*.csv")}
    assert {"loss_prediction", "target_std", "embedding_rankme", "embedding_rank", "embedding_std"} <= logged.keys()
    rows = logged["embedding_rankme"].read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["2", "3"]
    assert found.probes.keys() == {"embedding_rankme", "embedding_rank", "embedding_std"}
    assert 1 < found.probes["embedding_rankme"] <= 3 and found.probes["embedding_std"] > 0


@pytest.mark.parametrize("family", PRETRAINING)
def test_an_encoder_that_shows_all_images_alike_is_seen_by_its_probes(family):
    model = model_of(family)
    batch = replay_of(model).sample()
    before = model.objective().probes(batch)
    torch.nn.init.zeros_(model.encoder.patches.proj.weight)
    after = model.objective().probes(batch)
    assert before["embedding_std"] > 1e-3 and before["embedding_rank"] > 1
    assert float(after["embedding_std"]) == pytest.approx(0, abs=1e-6)
    assert float(after["embedding_rankme"]) == pytest.approx(1, abs=1e-2)


def test_a_fit_that_collapses_shows_it_and_terms_against_it_hold_it_up():
    def fitted(kind):
        torch.manual_seed(0)
        walk = torch.randn(64, 3).cumsum(0) / 4
        replay = from_arrays([walk], [torch.zeros(63, 1)], sequence_length=8, batch_size=8, seed=0, print_fn=None)
        spec = Composite(observation=Bounded(-9, 9, (3,)))
        changes = {"latent": 16, "units": 32, "similarity": 0.0, "inverse_dynamics": 0.0, "horizon": 4}
        model = make_model("JEPA", "tiny", spec, Bounded(-1, 1, (1,)), against_collapse=kind, **changes)
        trainer = Trainer(model, replay, progress=False, lr=1e-2, warmup=0, seed=0)
        begun = trainer.probe(replay.sample())["embedding_std"]
        return trainer.train(60)["loss_prediction"], trainer.probes["embedding_std"] / begun

    loss, left = fitted("none")
    held = fitted("variance_covariance")
    assert left < 0.3 and held[1] > 1.0  # though the loss tells of success
    assert loss < held[0]


def test_probes_leave_modes_gradients_and_padding_alone():
    model = model_of("MAE").train()
    loss, batch = model.objective(), replay_of(model).sample()
    loss.probes(batch)
    assert model.training and all(p.grad is None for p in loss.parameters())
    jepa = make_model("JEPA", "tiny", Composite(observation=Bounded(-9, 9, (3,))), Bounded(-1, 1, (1,)))
    seen = TensorDict({"observation": torch.randn(4, 3, 3)}, [4, 3])
    real = torch.ones(4, 3, dtype=torch.bool).index_fill(1, torch.tensor([2]), False)
    padded = seen.clone().set(("collector", "mask"), real)
    padded["observation"][:, 2] = torch.nan
    found, wanted = (JEPALoss(jepa).probes(one) for one in (padded, seen[:, :2]))
    assert found == wanted and found["embedding_std"] > 0


def test_worlds_on_frozen_features_are_probed_too():
    model = make_model("DINOWM", "tiny", SPEC, Bounded(-1, 1, (1,)))
    batch = replay_of(model_of("MAE"), length=4).sample()
    assert model.objective().probes(batch)["embedding_std"] > 0


def test_embeddings_that_are_not_finite_or_not_two_give_no_number_and_no_error():
    assert all(value.isnan() for value in collapse_probes(torch.full((5, 3), torch.inf)).values())
    assert all(value.isnan() for value in collapse_probes(torch.ones(1, 3)).values())
    torch.manual_seed(0)
    spread = collapse_probes(torch.randn(5000, 4))
    assert float(spread["embedding_rankme"]) == pytest.approx(4, abs=0.05)


WRONG = {
    "images of another size": ("MAE", {"size": 24}, OtherDataError, r"'pixels' is uint8 \[24, 24, 3\]"),
    "too few frames": ("VJEPA", {"length": 1}, ValueError, r"\(1, 16, 16\) exactly: .*frames do not come out"),
    "clips of another length": ("VJEPA", {"length": 4}, ValueError, r"of \(2, 16, 16\); got \(4, 16, 16\)"),
    "masks of another grid": ("MAE", {"masks": [RandomMasks((2, 8))]}, ValueError, r"a grid \(2, 8\) of patches"),
}


@pytest.mark.parametrize("family,other,error,said", WRONG.values(), ids=WRONG)
def test_other_data_than_the_model_is_made_for_are_refused_before_anything_is_learned(family, other, error, said):
    model = model_of(family)
    trainer = Trainer(model, replay_of(model, **other), progress=False)
    with pytest.raises(error, match=said):
        trainer.train(1)
    assert trainer.steps == 0


def test_a_loss_by_itself_refuses_them_too():
    model = model_of("IJEPA")
    loss, batch = model.objective(), replay_of(model).sample()
    with pytest.raises(ValueError, match="move the channels to the end"):
        loss(batch.clone().set("pixels", batch["pixels"].movedim(-1, -3)))
    with pytest.raises(ValueError, match=r"images \(height, width\) of \(16, 16\); got \(24, 24\)"):
        loss(batch.clone().set("pixels", torch.zeros(3, 1, 24, 24, 3, dtype=torch.uint8)))
    by_hand = batch.exclude(("masks", "0", "grid"))
    assert loss(by_hand)["loss_prediction"].isfinite()
    by_hand["masks", "0", "target"] = by_hand["masks", "0", "target"] + 14
    with pytest.raises(ValueError, match=r"the masks name patches 0 to \d+, and the model's grid \(4, 4\) has 16"):
        loss(by_hand)


def test_a_bundle_of_other_masks_numbers_is_another_run(tmp_path):
    trainer_of("IJEPA", out=tmp_path).train(1)
    torch.manual_seed(0)
    sizes = {"encoder": ViTConfig(24, 1, 2, 32), "patch": 4, **SIZES["IJEPA"], "targets": 3}
    model = make_pretraining("IJEPA", "tiny", SPEC, **sizes)
    with pytest.raises(BadCheckpointError, match=r"config.loss.targets was 4, is 3"):
        Trainer(model, replay_of(model), progress=False, lr=1e-3, warmup=1, out=tmp_path)


@pytest.mark.weekly
@pytest.mark.parametrize("family,parallel", [("IJEPA", "ddp"), ("IJEPA", "fsdp"), ("MAE", "ddp"), ("VJEPA", "ddp")])
def test_two_processes_learn_as_one_with_the_doubled_batch(family, parallel):
    def learned(pick, **options):
        model = model_of(family)
        replay = replay_of(model)
        replay.set_rng(torch.Generator().manual_seed(0))
        batches = [pick(replay.sample().repeat(2, 1)) for _ in range(3)]
        trainer = Trainer(model, GivenBatches(lambda n: batches[n % 3]), lr=1e-3, warmup=0, progress=False, **options)
        trainer.share()
        model.train()
        for batch in batches:
            trainer.update(batch)
        return dict(model.state_dict()), trainer.probe(batches[0])

    weights, _ = learned(lambda batch: batch, ranks=Ranks())
    for own, probes in run_ranks(lambda rank: learned(lambda batch: batch[3 * rank :][:3], parallel=parallel)):
        assert len(probes) == 3
        for key, value in weights.items():
            torch.testing.assert_close(own[key], value, rtol=1e-3, atol=5e-4, msg=key)
