import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support import golden_vectors
from wmcomponents.evaluation.metrics import (
    FrechetFeatures,
    bootstrap_counts,
    frechet_distance,
    lpips,
    mean_bands,
    psnr,
    spearman,
    ssim,
)

SEEDS = st.integers(0, 2**16)


def images(seed=0, shape=(3, 2, 24, 20)):
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(shape, generator=generator)
    return first, (first + 0.2 * torch.randn(shape, generator=generator)).clamp(0, 1)


def normals(seed, rows, width, scale=1.0):
    return scale * torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- golden ------------------------------------------------------------------------------------------------------


def test_psnr_and_ssim_are_those_of_the_published_code():
    facts, vectors = golden_vectors.load("metrics_psnr_ssim")
    a, b, close = vectors["in.a"], vectors["in.b"], {key: facts["tolerance"][key] for key in ("rtol", "atol")}
    whole = psnr(a.reshape(1, -1, *a.shape[-2:]), b.reshape(1, -1, *b.shape[-2:]))[0]  # that code's is of the batch
    torch.testing.assert_close(whole, vectors["out.psnr"], **close)
    found = ssim(a, b, border="zeros")
    torch.testing.assert_close(found, vectors["out.ssim_per_image"], **close)
    torch.testing.assert_close(found.mean(), vectors["out.ssim"], **close)


def test_the_frechet_distance_is_that_of_the_published_code_also_of_few_samples():
    _, vectors = golden_vectors.load("frechet_distance")
    if "in.f1" in vectors:
        first, second = vectors["in.f1"], vectors["in.f2"]
        assert frechet_distance(first, second) == pytest.approx(float(vectors["out.fd_12"]), rel=1e-3)
        assert frechet_distance(first, first) == pytest.approx(float(vectors["out.fd_11"]), abs=1e-4)
        few = frechet_distance(first, second[:6])
        assert few == pytest.approx(float(vectors["out.fd_1_vs_first6_of_2"]), rel=1e-3)
    else:
        found = frechet_distance(vectors["in/feats_fake"], vectors["in/feats_real"])
        assert found == pytest.approx(float(vectors["out/fvd"]), rel=1e-6)


# -- images ------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # importing torchmetrics takes seconds
def test_ssim_and_psnr_agree_with_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.image")
    shown, truth = images()
    theirs = functional.structural_similarity_index_measure(shown, truth, data_range=1.0, reduction="none")
    torch.testing.assert_close(ssim(shown, truth, border="reflect"), theirs, rtol=1e-4, atol=1e-5)
    theirs = functional.peak_signal_noise_ratio(shown, truth, data_range=1.0, dim=(1, 2, 3), reduction="none")
    torch.testing.assert_close(psnr(shown, truth), theirs)


@pytest.mark.parametrize("border", ["valid", "reflect", "zeros"])
def test_ssim_is_one_of_equal_images_symmetric_and_of_the_range(border):
    shown, truth = images()
    torch.testing.assert_close(ssim(truth, truth, border=border), torch.ones(3))
    torch.testing.assert_close(ssim(shown, truth, border=border), ssim(truth, shown, border=border))
    torch.testing.assert_close(
        ssim(255 * shown, 255 * truth, 255.0, border=border), ssim(shown, truth, border=border), rtol=1e-4, atol=1e-5
    )


def test_images_smaller_than_the_window_are_refused_with_the_remedy():
    small = torch.zeros(1, 1, 10, 10)
    with pytest.raises(ValueError, match="border='reflect'"):
        ssim(small, small)
    with pytest.raises(ValueError, match="one shape"):
        psnr(small, small[0])


# -- features ----------------------------------------------------------------------------------------------------


@given(seed=SEEDS)
def test_the_frechet_distance_is_a_closed_form_of_commuting_covariances(seed):
    first = normals(seed, 12, 3)
    first = (first - first.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(first.T))).T
    scale, shift = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64), torch.tensor([0.0, 3.0, 0.0])
    expected = 9.0 + float((1 - scale).square().sum())
    assert frechet_distance(first, first * scale + shift) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(first * scale + shift, first) == pytest.approx(expected, rel=1e-6)


def test_the_frechet_distance_of_few_samples_is_that_by_eigenvalues():
    first, second = normals(0, 5, 12), normals(1, 7, 12, 2.0)
    product = torch.cov(first.T) @ torch.cov(second.T)
    root = torch.linalg.eigvals(product).real.clamp_min(0).sqrt().sum()
    expected = (
        (first.mean(0) - second.mean(0)).square().sum() + torch.cov(first.T).trace() + torch.cov(second.T).trace()
    )
    assert frechet_distance(first, second) == pytest.approx(float(expected - 2 * root), rel=1e-5)


def test_features_are_gathered_batch_by_batch():
    gathered = FrechetFeatures(lambda images: images.flatten(1)[:, :3])
    real, shown = images(shape=(8, 1, 4, 4))
    for part in range(0, 8, 4):
        gathered.add(real[part : part + 4], shown[part : part + 4])
    assert gathered.samples == 8
    whole = frechet_distance(real.flatten(1)[:, :3], shown.flatten(1)[:, :3])
    assert gathered.distance() == pytest.approx(whole, abs=1e-9)
    with pytest.raises(ValueError, match=r"features \[4, F\]"):
        FrechetFeatures(lambda images: images).add(real[:4], shown[:4])


def test_lpips_is_the_equation_by_hand_and_agrees_on_equal_images():
    def backbone(image):
        return [torch.cat([image, torch.zeros_like(image)], 1), image.mean((2, 3), keepdim=True)]

    white, black = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    # Unit features are +1 and -1 at both depths: squared distance 4 each.
    torch.testing.assert_close(lpips(backbone, white, black), torch.tensor([8.0]))
    weights = [torch.tensor([0.5, 9.0]), torch.tensor([0.25])]
    torch.testing.assert_close(lpips(backbone, white, black, weights), torch.tensor([3.0]))
    assert float(lpips(backbone, white, white)) == 0.0
    with pytest.raises(ValueError, match="2 feature maps"):
        lpips(backbone, white, black, weights[:1])


# -- ranks and bands ---------------------------------------------------------------------------------------------


@given(seed=SEEDS, rows=st.integers(3, 12))
def test_rank_correlation_is_scipys(seed, rows):
    stats = pytest.importorskip("scipy.stats")
    first, second = normals(seed, rows, 1)[:, 0].mul(2).round(), normals(seed + 1, rows, 1)[:, 0]
    if len(first.unique()) > 1:
        assert spearman(first, second) == pytest.approx(float(stats.spearmanr(first, second).statistic))


def test_what_does_not_vary_orders_nothing():
    assert math.isnan(spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="as many numbers"):
        spearman([1.0], [1.0, 2.0])


def test_bands_hold_the_spread_of_a_mean_and_leave_out_what_is_missing():
    values = normals(0, 400, 2).add(torch.tensor([0.0, 5.0]))
    values[::2, 1] = math.nan
    band = mean_bands(values, bootstrap_counts(torch.arange(400)))
    assert band.mean[1] == pytest.approx(float(values[1::2, 1].mean()))
    for column, rows in ((0, 400), (1, 200)):
        half = (band.high[column] - band.low[column]) / 2
        assert half == pytest.approx(1.96 / rows**0.5, rel=0.25)


def test_rows_of_one_episode_count_as_one_piece_of_evidence():
    values = normals(0, 20, 1).repeat_interleave(20, 0)
    wide = mean_bands(values, bootstrap_counts(torch.arange(20).repeat_interleave(20)))
    narrow = mean_bands(values, bootstrap_counts(torch.arange(400)))
    assert wide.high[0] - wide.low[0] > 3 * (narrow.high[0] - narrow.low[0])
