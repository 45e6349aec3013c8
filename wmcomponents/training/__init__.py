"""Training that can be stopped at any moment and resumed to the bit."""

from wmcomponents._global_batch import average_gradients as average_gradients
from wmcomponents._lock import FolderInUseError as FolderInUseError
from wmcomponents.data.fit import OtherDataError as OtherDataError
from wmcomponents.training.checkpoint import BadCheckpointError as BadCheckpointError
from wmcomponents.training.checkpoint import load_checkpoint as load_checkpoint
from wmcomponents.training.checkpoint import save_checkpoint as save_checkpoint
from wmcomponents.training.loop import DivergedError as DivergedError
from wmcomponents.training.loop import Trainer as Trainer
from wmcomponents.training.ranks import LostRankError as LostRankError
from wmcomponents.training.ranks import Ranks as Ranks
from wmcomponents.training.schedule import ConstantThenDecay as ConstantThenDecay
from wmcomponents.training.schedule import LinearDecay as LinearDecay
from wmcomponents.training.seeding import seed_everything as seed_everything
from wmcomponents.training.stages import UntrainedStageWarning as UntrainedStageWarning
