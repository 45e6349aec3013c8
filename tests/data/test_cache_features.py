"""Features that are kept: each image is encoded once, and nothing else changes."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded

from tests.support.models import JEPA_WM_SIZES, MIXED
from tests.support.real import Counts
from wmcomponents.data import CacheFeatures, collect, features_key, make_env, make_replay
from wmcomponents.models import JEPAWM, JEPAWMConfig


def numbered(*index):
    """Images that show a number each."""
    return torch.tensor(index, dtype=torch.uint8)[..., None, None, None].expand(*torch.tensor(index).shape, 4, 4, 3)


def watched(**options):
    seen = []

    def encode(images):
        seen.append(images[:, 0, 0, 0].tolist())
        return images[:, 0, 0, :2].float() + 0.5

    return CacheFeatures(encode, "pixels", **options), seen


def batch(*index):
    now, then = numbered(*index[:-1]), numbered(*index[1:])
    return TensorDict({"pixels": now[None], "next": {"pixels": then[None]}}, [1, len(index) - 1])


def test_each_image_is_encoded_once_wherever_it_stands():
    cache, seen = watched()
    first, again = cache(batch(1, 2, 3, 2)), cache(batch(3, 4, 1))
    assert sorted(seen[0]) == [1, 2, 3] and seen[1:] == [[4]] and cache.encoded == 4
    for found, index in ((first, (1, 2, 3, 2)), (again, (3, 4, 1))):
        wanted = torch.tensor(index)[:, None] + 0.5
        assert torch.equal(found["pixels_features"][0], wanted[:-1].expand(-1, 2))
        assert torch.equal(found["next", "pixels_features"][0], wanted[1:].expand(-1, 2))


def test_the_oldest_leave_where_there_is_no_room():
    cache, seen = watched(most=3)
    cache(batch(1, 2))
    cache(batch(3, 4))
    assert torch.equal(cache(batch(4, 3))["pixels_features"][0, 0], torch.full((2,), 4.5))
    assert len(seen) == 2
    many = cache(batch(1, 2, 5, 6, 7))  # more than are kept
    assert torch.equal(many["next", "pixels_features"][0, :, 0], torch.tensor([2.5, 5.5, 6.5, 7.5]))
    assert len(cache._slots) == 3 == len(cache._table)


def test_features_are_kept_in_the_dtype_that_is_asked_for():
    cache, _ = watched(dtype=torch.float16, chunk=1)
    assert cache(batch(1, 2, 3))["pixels_features"].dtype == torch.float16
    assert cache(batch(3, 9))["pixels_features"].dtype == torch.float16


def test_a_batch_without_images_is_refused():
    with pytest.raises(KeyError, match="pixels"):
        watched()[0](TensorDict({"other": torch.zeros(2)}, [2]))
    assert features_key(("next", "eye")) == ("next", "eye_features")


def test_a_model_learns_the_same_from_cached_features_without_its_encoder():
    torch.manual_seed(0)
    model = JEPAWM(JEPAWMConfig.tiny(**JEPA_WM_SIZES), MIXED, Bounded(-2, 2, (2,)))
    shown = MIXED.expand(2, 5).rand()
    flag = torch.zeros(2, 4, 1, dtype=torch.bool)
    data = TensorDict(
        {
            **shown[:, :-1].to_dict(),
            "action": torch.rand(2, 4, 2),
            "is_init": flag,
            "next": {**shown[:, 1:].to_dict(), "reward": torch.zeros(2, 4, 1), "terminated": flag, "done": flag},
        },
        [2, 4],
    )
    cache = CacheFeatures(model.image_features, "camera")
    plain = model.objective()(data)
    cached = cache(data.clone())
    model.encoder.compute = None  # it must not be asked
    other = model.objective()(cached)
    for key in ("loss_prediction", "loss_rollout", "feature_std"):
        torch.testing.assert_close(other[key], plain[key])


def test_a_replay_buffer_gives_them():
    env = make_env(lambda: Counts(as_dict=True))  # its camera shows the number of the step
    replay = make_replay(20, env, sequence_length=3, batch_size=2, seed=0, print_fn=None)
    collect(env, replay, 12, seed=0)
    cache = CacheFeatures(lambda images: images[:, 0, 0, :1].float(), "camera")
    replay.append_transform(cache)
    for _ in range(5):
        out = replay.sample()
        for part in (out, out["next"]):
            assert torch.equal(part["camera_features"][..., 0], part["camera"][..., 0, 0, 0].float())
    assert cache.encoded <= 4
