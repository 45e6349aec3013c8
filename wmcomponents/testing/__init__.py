"""The conformance kit, for the models of this library and for yours."""

from wmcomponents.testing.dream import check_dream as check_dream
from wmcomponents.testing.report import Conformance as Conformance
from wmcomponents.testing.report import ConformanceError as ConformanceError
from wmcomponents.testing.report import Failure as Failure
from wmcomponents.testing.world_model import check_world_model as check_world_model
