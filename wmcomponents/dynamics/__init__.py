"""From one state to the next."""

from wmcomponents.dynamics.beliefs import AbsolutePosterior as AbsolutePosterior
from wmcomponents.dynamics.beliefs import Posterior as Posterior
from wmcomponents.dynamics.beliefs import Prior as Prior
from wmcomponents.dynamics.beliefs import RecurrentPosterior as RecurrentPosterior
from wmcomponents.dynamics.cell import BlockGRUCell as BlockGRUCell
from wmcomponents.dynamics.cell import Cell as Cell
from wmcomponents.dynamics.latent import CategoricalLatent as CategoricalLatent
from wmcomponents.dynamics.latent import GaussianLatent as GaussianLatent
from wmcomponents.dynamics.latent import Latent as Latent
from wmcomponents.dynamics.rssm import RSSM as RSSM
from wmcomponents.dynamics.rssm import RSSMObserve as RSSMObserve
from wmcomponents.dynamics.rssm import RSSMObserveSequence as RSSMObserveSequence
