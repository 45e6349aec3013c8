"""Real environments by id, collection, replay in TorchRL's layout, and sequence sampling."""

from wmcomponents._lock import FolderInUseError as FolderInUseError

from .collect import CollectStats as CollectStats
from .collect import RandomPolicy as RandomPolicy
from .collect import RealCollector as RealCollector
from .collect import collect as collect
from .environments import UnknownEnvironmentError as UnknownEnvironmentError
from .environments import action_spec as action_spec
from .environments import make_env as make_env
from .environments import observation_spec as observation_spec
from .fit import OtherDataError as OtherDataError
from .folder import BadDataError as BadDataError
from .folder import DataWriter as DataWriter
from .folder import read_description as read_description
from .memmap import ReplayTooLargeError as ReplayTooLargeError
from .memmap import WorkingMemmapStorage as WorkingMemmapStorage
from .pictures import PicturesOnceMemmapStorage as PicturesOnceMemmapStorage
from .pictures import PicturesOnceStorage as PicturesOnceStorage
from .replay import SequenceReplayBuffer as SequenceReplayBuffer
from .replay import load_replay as load_replay
from .replay import make_replay as make_replay
from .replay import replay_bytes as replay_bytes
from .replay import save_replay as save_replay
from .sequences import EmptyReplayError as EmptyReplayError
from .sequences import ReplayTooShortError as ReplayTooShortError
from .sequences import SequenceSampler as SequenceSampler
from .transitions import transition_keys as transition_keys
from .transitions import transition_spec as transition_spec
