"""A state or an observation as a frame."""

from wmcomponents.rendering.frames import frame as frame
from wmcomponents.rendering.frames import simulator_frames as simulator_frames
from wmcomponents.rendering.renderers import RENDERERS as RENDERERS
from wmcomponents.rendering.renderers import make_renderer as make_renderer
