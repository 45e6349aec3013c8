"""Controllers evolved in dreams, after Ha and Schmidhuber (2018)."""

from wmcomponents.agents.evolution.agent import EvolutionAgent as EvolutionAgent
from wmcomponents.agents.evolution.cma_es import CMAES as CMAES
from wmcomponents.agents.evolution.controller import LinearController as LinearController
from wmcomponents.agents.evolution.dream_returns import DreamReturns as DreamReturns
from wmcomponents.agents.evolution.dream_returns import Earned as Earned
from wmcomponents.agents.evolution.dream_returns import Returns as Returns
from wmcomponents.agents.evolution.pedals import SteeringAndPedals as SteeringAndPedals
from wmcomponents.agents.evolution.real_returns import RealReturns as RealReturns
