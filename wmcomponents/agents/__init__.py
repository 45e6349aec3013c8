"""Behaviour: actor-critics, planners, search, evolution."""

from wmcomponents.agents.agent import Agent as Agent
from wmcomponents.agents.agent import LearnsFrom as LearnsFrom
from wmcomponents.agents.delta_iris import DeltaIRISAgent as DeltaIRISAgent
from wmcomponents.agents.diamond import DiamondAgent as DiamondAgent
from wmcomponents.agents.dreamer_v1 import DreamerV1Agent as DreamerV1Agent
from wmcomponents.agents.dreamer_v2 import DreamerV2Agent as DreamerV2Agent
from wmcomponents.agents.dreamer_v3 import DreamerV3Agent as DreamerV3Agent
from wmcomponents.agents.dreamer_v3_preprint import DreamerV3PreprintAgent as DreamerV3PreprintAgent
from wmcomponents.agents.efficientzero import EfficientZeroAgent as EfficientZeroAgent
from wmcomponents.agents.epochs import Epochs as Epochs
from wmcomponents.agents.epochs import EpochSchedule as EpochSchedule
from wmcomponents.agents.iris import IRISAgent as IRISAgent
from wmcomponents.agents.muzero import MuZeroAgent as MuZeroAgent
from wmcomponents.agents.online import OnlineTrainer as OnlineTrainer
from wmcomponents.agents.planet import PlaNetAgent as PlaNetAgent
from wmcomponents.agents.planning_agent import PlanningAgent as PlanningAgent
from wmcomponents.agents.schedule import Schedule as Schedule
from wmcomponents.agents.self_play import SelfPlayAgent as SelfPlayAgent
from wmcomponents.agents.storm import STORMAgent as STORMAgent
from wmcomponents.agents.tdmpc2 import TDMPC2Agent as TDMPC2Agent
from wmcomponents.agents.whole_agent import AgentConfig as AgentConfig
from wmcomponents.agents.whole_agent import WholeAgent as WholeAgent
from wmcomponents.agents.world_models import WorldModelsAgent as WorldModelsAgent
