"""What is minimised: one LossModule a paper."""

from wmcomponents.objectives.arrivals import Arrivals as Arrivals
from wmcomponents.objectives.arrivals import Transitions as Transitions
from wmcomponents.objectives.model_loss import ModelLoss as ModelLoss
from wmcomponents.objectives.model_loss import Terms as Terms
from wmcomponents.objectives.model_loss import TrainableModel as TrainableModel
from wmcomponents.objectives.model_loss import check_model as check_model
from wmcomponents.objectives.staged import StagedModelLoss as StagedModelLoss
from wmcomponents.objectives.target_network import ExponentialAverage as ExponentialAverage
from wmcomponents.objectives.target_network import PeriodicCopy as PeriodicCopy
from wmcomponents.objectives.target_network import copy_weights as copy_weights
