"""What is minimised: one LossModule a paper."""

from wmcomponents.objectives.arrivals import Arrivals as Arrivals
from wmcomponents.objectives.arrivals import Transitions as Transitions
from wmcomponents.objectives.delta_iris import DeltaIRISLoss as DeltaIRISLoss
from wmcomponents.objectives.diamond import DiamondLoss as DiamondLoss
from wmcomponents.objectives.dreamer_v1 import DreamerV1ModelLoss as DreamerV1ModelLoss
from wmcomponents.objectives.dreamer_v2 import DreamerV2ModelLoss as DreamerV2ModelLoss
from wmcomponents.objectives.dreamer_v3 import DreamerV3ModelLoss as DreamerV3ModelLoss
from wmcomponents.objectives.dreamer_v3_preprint import DreamerV3PreprintModelLoss as DreamerV3PreprintModelLoss
from wmcomponents.objectives.efficientzero import EfficientZeroLoss as EfficientZeroLoss
from wmcomponents.objectives.iris import IRISLoss as IRISLoss
from wmcomponents.objectives.model_loss import ModelLoss as ModelLoss
from wmcomponents.objectives.model_loss import StagedModelLoss as StagedModelLoss
from wmcomponents.objectives.model_loss import Terms as Terms
from wmcomponents.objectives.muzero import MuZeroLoss as MuZeroLoss
from wmcomponents.objectives.planet import PlaNetModelLoss as PlaNetModelLoss
from wmcomponents.objectives.priorities import initial_priorities as initial_priorities
from wmcomponents.objectives.rssm import Filtered as Filtered
from wmcomponents.objectives.rssm import RSSMModelLoss as RSSMModelLoss
from wmcomponents.objectives.tdmpc2 import TDMPC2Loss as TDMPC2Loss
from wmcomponents.objectives.token_world import TokenWorldLoss as TokenWorldLoss
from wmcomponents.objectives.value_equivalent import ValueEquivalentLoss as ValueEquivalentLoss
from wmcomponents.objectives.world_models import WorldModelsLoss as WorldModelsLoss
