"""From features to rewards, continuation, values, choices."""

from wmcomponents.heads.bernoulli import BernoulliHead as BernoulliHead
from wmcomponents.heads.categorical import CategoricalHead as CategoricalHead
from wmcomponents.heads.mse import MSEHead as MSEHead
from wmcomponents.heads.two_hot import TwoHotHead as TwoHotHead
