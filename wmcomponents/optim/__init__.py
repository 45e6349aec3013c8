"""The papers' optimisers, where torch has none that follows their rule."""

from wmcomponents.optim.clipped_adam import ClippedAdam as ClippedAdam
from wmcomponents.optim.laprop import LaProp as LaProp
