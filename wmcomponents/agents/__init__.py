"""Behaviour: actor-critics, planners, search."""

from wmcomponents.agents.agent import Agent as Agent
from wmcomponents.agents.agent import LearnsFrom as LearnsFrom
