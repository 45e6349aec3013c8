"""Metrics of images, films and policies; the network behind a perceptual one is always the caller's."""

from wmcomponents.evaluation.metrics.bootstrap import Band as Band
from wmcomponents.evaluation.metrics.bootstrap import bootstrap_counts as bootstrap_counts
from wmcomponents.evaluation.metrics.bootstrap import mean_bands as mean_bands
from wmcomponents.evaluation.metrics.frechet import FrechetFeatures as FrechetFeatures
from wmcomponents.evaluation.metrics.frechet import frechet_distance as frechet_distance
from wmcomponents.evaluation.metrics.image_quality import psnr as psnr
from wmcomponents.evaluation.metrics.image_quality import ssim as ssim
from wmcomponents.evaluation.metrics.mutual_information import entropy_bits as entropy_bits
from wmcomponents.evaluation.metrics.mutual_information import mutual_information as mutual_information
from wmcomponents.evaluation.metrics.perceptual import lpips as lpips
from wmcomponents.evaluation.metrics.rank_correlation import spearman as spearman
