"""What is minimised: one LossModule a paper."""

from wmcomponents.objectives.arrivals import Arrivals as Arrivals
from wmcomponents.objectives.arrivals import Transitions as Transitions
from wmcomponents.objectives.collapse.sequences import AgainstCollapse as AgainstCollapse
from wmcomponents.objectives.collapse.sequences import InverseDynamics as InverseDynamics
from wmcomponents.objectives.collapse.sequences import PLDMRegularizer as PLDMRegularizer
from wmcomponents.objectives.collapse.sequences import SIGReg as SIGReg
from wmcomponents.objectives.collapse.sequences import TemporalSimilarity as TemporalSimilarity
from wmcomponents.objectives.collapse.sequences import TemporalStraightening as TemporalStraightening
from wmcomponents.objectives.collapse.sequences import Together as Together
from wmcomponents.objectives.collapse.sequences import VarianceCovariance as VarianceCovariance
from wmcomponents.objectives.collapse.views import BatchedCharacteristicSlicing as BatchedCharacteristicSlicing
from wmcomponents.objectives.collapse.views import LeJEPA as LeJEPA
from wmcomponents.objectives.collapse.views import MeanVICReg as MeanVICReg
from wmcomponents.objectives.collapse.views import SlicedViewLoss as SlicedViewLoss
from wmcomponents.objectives.collapse.views import VICReg as VICReg
from wmcomponents.objectives.collapse.views import ViewLoss as ViewLoss
from wmcomponents.objectives.feature_rollout import FeatureRollout as FeatureRollout
from wmcomponents.objectives.feature_rollout import feature_rollout as feature_rollout
from wmcomponents.objectives.model_loss import ModelLoss as ModelLoss
from wmcomponents.objectives.model_loss import Terms as Terms
from wmcomponents.objectives.model_loss import TrainableModel as TrainableModel
from wmcomponents.objectives.model_loss import check_model as check_model
from wmcomponents.objectives.staged import StagedModelLoss as StagedModelLoss
from wmcomponents.objectives.target_network import ExponentialAverage as ExponentialAverage
from wmcomponents.objectives.target_network import PeriodicCopy as PeriodicCopy
from wmcomponents.objectives.target_network import copy_weights as copy_weights
