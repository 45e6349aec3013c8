"""What is wrong with recorded steps, found before a model is trained on them."""

from wmcomponents.data.doctor.examine import CHECKS as CHECKS
from wmcomponents.data.doctor.examine import Examined as Examined
from wmcomponents.data.doctor.examine import examine as examine
from wmcomponents.data.doctor.finding import Finding as Finding
from wmcomponents.data.doctor.finding import UnusableDataError as UnusableDataError
