"""Dream against reality: reports, metrics, pictures, videos."""

from wmcomponents.evaluation.frames import frame as frame
from wmcomponents.evaluation.frames import simulator_frames as simulator_frames
from wmcomponents.evaluation.horizon import CalibrationBin as CalibrationBin
from wmcomponents.evaluation.horizon import Curve as Curve
from wmcomponents.evaluation.horizon import HorizonErrors as HorizonErrors
from wmcomponents.evaluation.horizon import horizon_errors as horizon_errors
from wmcomponents.evaluation.open_loop import Comparison as Comparison
from wmcomponents.evaluation.open_loop import OpenLoopStep as OpenLoopStep
from wmcomponents.evaluation.open_loop import compare as compare
from wmcomponents.evaluation.open_loop import longest as longest
from wmcomponents.evaluation.open_loop import open_loop as open_loop
from wmcomponents.evaluation.pictures import filmstrip as filmstrip
from wmcomponents.evaluation.pictures import horizon_figure as horizon_figure
from wmcomponents.evaluation.pictures import strip as strip
from wmcomponents.evaluation.renderers import RENDERERS as RENDERERS
from wmcomponents.evaluation.renderers import make_renderer as make_renderer
from wmcomponents.evaluation.returns import Returns as Returns
from wmcomponents.evaluation.returns import evaluate_dream as evaluate_dream
from wmcomponents.evaluation.returns import evaluate_policy as evaluate_policy
from wmcomponents.evaluation.story import tell_story as tell_story
from wmcomponents.evaluation.video import Reel as Reel
from wmcomponents.evaluation.video import comparison_reels as comparison_reels
from wmcomponents.evaluation.video import side_by_side as side_by_side
from wmcomponents.evaluation.video import write_gif as write_gif
from wmcomponents.evaluation.video import write_mp4 as write_mp4
from wmcomponents.evaluation.video import write_video as write_video
