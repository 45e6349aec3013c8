"""Behaviour learned in imagination, as parts: returns, gradients, normalisers, action distributions, losses."""

from wmcomponents.agents.actor_critic.action_distributions import ActionDistribution as ActionDistribution
from wmcomponents.agents.actor_critic.action_distributions import BoundedNormalActions as BoundedNormalActions
from wmcomponents.agents.actor_critic.action_distributions import CategoricalActions as CategoricalActions
from wmcomponents.agents.actor_critic.action_distributions import TanhNormalActions as TanhNormalActions
from wmcomponents.agents.actor_critic.action_distributions import TruncatedNormalActions as TruncatedNormalActions
from wmcomponents.agents.actor_critic.estimators import DynamicsGradient as DynamicsGradient
from wmcomponents.agents.actor_critic.estimators import GradientEstimator as GradientEstimator
from wmcomponents.agents.actor_critic.estimators import MixedGradient as MixedGradient
from wmcomponents.agents.actor_critic.estimators import NormalizedDynamicsGradient as NormalizedDynamicsGradient
from wmcomponents.agents.actor_critic.estimators import Reinforce as Reinforce
from wmcomponents.agents.actor_critic.normalizers import NoNormalizer as NoNormalizer
from wmcomponents.agents.actor_critic.normalizers import PercentileNormalizer as PercentileNormalizer
from wmcomponents.agents.actor_critic.normalizers import ReturnNormalizer as ReturnNormalizer
from wmcomponents.agents.actor_critic.normalizers import StdNormalizer as StdNormalizer
from wmcomponents.agents.actor_critic.targets import ArrivalReturn as ArrivalReturn
from wmcomponents.agents.actor_critic.targets import FutureReturn as FutureReturn
from wmcomponents.agents.actor_critic.targets import ReturnTargets as ReturnTargets
from wmcomponents.agents.actor_critic.targets import Targets as Targets
from wmcomponents.agents.actor_critic.targets import replay_targets as replay_targets
from wmcomponents.agents.actor_critic.terms import actor_term as actor_term
from wmcomponents.agents.actor_critic.terms import critic_term as critic_term
