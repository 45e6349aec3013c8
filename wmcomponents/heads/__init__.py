"""From features to rewards, continuation, values, choices."""

from wmcomponents.heads.attentive import AttentiveProbe as AttentiveProbe
from wmcomponents.heads.bernoulli import BernoulliDistribution as BernoulliDistribution
from wmcomponents.heads.bernoulli import BernoulliHead as BernoulliHead
from wmcomponents.heads.categorical import CategoricalDistribution as CategoricalDistribution
from wmcomponents.heads.categorical import CategoricalHead as CategoricalHead
from wmcomponents.heads.distribution import HeadDistribution as HeadDistribution
from wmcomponents.heads.film_outcome import FilmOutcomeHead as FilmOutcomeHead
from wmcomponents.heads.head import Head as Head
from wmcomponents.heads.latent_reward import RewardHead as RewardHead
from wmcomponents.heads.latent_reward import ValuePrefixHead as ValuePrefixHead
from wmcomponents.heads.numbers import MSEHead as MSEHead
from wmcomponents.heads.numbers import NormalHead as NormalHead
from wmcomponents.heads.numbers import NumberDistribution as NumberDistribution
from wmcomponents.heads.policy_prior import CategoricalPolicyPrior as CategoricalPolicyPrior
from wmcomponents.heads.policy_prior import GaussianPolicyPrior as GaussianPolicyPrior
from wmcomponents.heads.prediction import PredictionHead as PredictionHead
from wmcomponents.heads.preprint_two_hot import PreprintTwoHotHead as PreprintTwoHotHead
from wmcomponents.heads.projection import SimSiamProjection as SimSiamProjection
from wmcomponents.heads.q_ensemble import QEnsemble as QEnsemble
from wmcomponents.heads.reward_end import RewardEndHead as RewardEndHead
from wmcomponents.heads.symlog_two_hot import SymlogTwoHotDistribution as SymlogTwoHotDistribution
from wmcomponents.heads.symlog_two_hot import SymlogTwoHotHead as SymlogTwoHotHead
from wmcomponents.heads.termination import TerminationHead as TerminationHead
from wmcomponents.heads.two_hot import TwoHotDistribution as TwoHotDistribution
from wmcomponents.heads.two_hot import TwoHotHead as TwoHotHead
