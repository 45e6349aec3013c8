"""Data of others, and of one's own, as data folders: one file a source, all read as :class:`Recording`."""

from wmcomponents.data.datasets.recording import Piece as Piece
from wmcomponents.data.datasets.recording import Recording as Recording
from wmcomponents.data.datasets.registry import SOURCES as SOURCES
from wmcomponents.data.datasets.registry import UnknownSourceError as UnknownSourceError
from wmcomponents.data.datasets.registry import open_source as open_source
from wmcomponents.data.datasets.registry import register_source as register_source
from wmcomponents.data.datasets.registry import source_named as source_named
from wmcomponents.data.datasets.registry import source_options as source_options
from wmcomponents.data.datasets.writing import recording_bytes as recording_bytes
from wmcomponents.data.datasets.writing import write_recording as write_recording
