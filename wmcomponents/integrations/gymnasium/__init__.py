"""Dreams as Gymnasium environments, single and vectorised; and the way back, the filter on a real environment."""

from wmcomponents.integrations.gymnasium.dreams import DreamEnv as DreamEnv
from wmcomponents.integrations.gymnasium.dreams import StepAfterDoneError as StepAfterDoneError
from wmcomponents.integrations.gymnasium.goal_dreams import GoalDreamEnv as GoalDreamEnv
from wmcomponents.integrations.gymnasium.goal_dreams import GoalObservation as GoalObservation
from wmcomponents.integrations.gymnasium.latent_wrappers import LatentFilter as LatentFilter
from wmcomponents.integrations.gymnasium.latent_wrappers import LatentObservation as LatentObservation
from wmcomponents.integrations.gymnasium.latent_wrappers import LatentVectorObservation as LatentVectorObservation
from wmcomponents.integrations.gymnasium.statistics import EpisodeStatistics as EpisodeStatistics
from wmcomponents.integrations.gymnasium.vector_dreams import DreamVectorEnv as DreamVectorEnv
