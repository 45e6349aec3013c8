"""The truth report: everything that can be told of a trained model from real steps, and what follows from it."""

from wmcomponents.evaluation.truth.compared import compare_reports as compare_reports
from wmcomponents.evaluation.truth.evidence import Evidence as Evidence
from wmcomponents.evaluation.truth.evidence import evidence_from as evidence_from
from wmcomponents.evaluation.truth.pictures import Backbones as Backbones
from wmcomponents.evaluation.truth.truth_report import FORMAT as FORMAT
from wmcomponents.evaluation.truth.truth_report import SECTIONS as SECTIONS
from wmcomponents.evaluation.truth.truth_report import TruthSettings as TruthSettings
from wmcomponents.evaluation.truth.truth_report import truth_report as truth_report
from wmcomponents.evaluation.truth.truth_report import write_truth_report as write_truth_report
