"""Pure tensor maths, one topic a file."""

from wmcomponents.functional.bounded_normal import bounded_normal as bounded_normal
from wmcomponents.functional.categorical import categorical_entropy as categorical_entropy
from wmcomponents.functional.categorical import categorical_kl as categorical_kl
from wmcomponents.functional.categorical import categorical_log_prob as categorical_log_prob
from wmcomponents.functional.categorical import inverse_cdf_index as inverse_cdf_index
from wmcomponents.functional.categorical import inverse_cdf_one_hot as inverse_cdf_one_hot
from wmcomponents.functional.categorical import mode_one_hot as mode_one_hot
from wmcomponents.functional.categorical import one_hot as one_hot
from wmcomponents.functional.categorical import straight_through as straight_through
from wmcomponents.functional.categorical import unimix_log_probs as unimix_log_probs
from wmcomponents.functional.categorical import unimix_probs as unimix_probs
from wmcomponents.functional.gaussian import gaussian_entropy as gaussian_entropy
from wmcomponents.functional.gaussian import gaussian_kl as gaussian_kl
from wmcomponents.functional.gaussian import gaussian_log_prob as gaussian_log_prob
from wmcomponents.functional.kl import balanced_kl as balanced_kl
from wmcomponents.functional.kl import free_nats as free_nats
from wmcomponents.functional.reconstruction import bernoulli_cross_entropy as bernoulli_cross_entropy
from wmcomponents.functional.reconstruction import categorical_cross_entropy as categorical_cross_entropy
from wmcomponents.functional.reconstruction import squared_error as squared_error
from wmcomponents.functional.symlog import symexp as symexp
from wmcomponents.functional.symlog import symlog as symlog
from wmcomponents.functional.two_hot import symexp_bins as symexp_bins
from wmcomponents.functional.two_hot import two_hot as two_hot
from wmcomponents.functional.two_hot import two_hot_cross_entropy as two_hot_cross_entropy
from wmcomponents.functional.two_hot import two_hot_mean as two_hot_mean
from wmcomponents.functional.two_hot import two_hot_neighbours as two_hot_neighbours
