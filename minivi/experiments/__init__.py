"""The chapters' experiments and equation checks: their registry, their runs, and the results that runs leave."""

from minivi.experiments.equations import (
    CHECKS,
    Check,
    check,
    implementing_lines,
    matching_checks,
    numbers_of,
    run_check,
)
from minivi.experiments.page import write_page
from minivi.experiments.provenance import environment
from minivi.experiments.registry import (
    BUDGETS,
    EXPERIMENTS,
    Experiment,
    experiment,
    find,
    load_chapters,
)
from minivi.experiments.results import (
    Claim,
    ExperimentError,
    Result,
    Row,
    Table,
    mean_and_error,
    report_claims,
    report_stored,
    rows_text,
)
from minivi.experiments.runner import FailedExperiments, Run, outcome, redraw, run_experiments
from minivi.tables import duration, terminal_width, text_table

__all__ = [
    "BUDGETS",
    "CHECKS",
    "EXPERIMENTS",
    "Check",
    "Claim",
    "Experiment",
    "ExperimentError",
    "FailedExperiments",
    "Result",
    "Row",
    "Run",
    "Table",
    "check",
    "duration",
    "environment",
    "experiment",
    "find",
    "implementing_lines",
    "load_chapters",
    "matching_checks",
    "mean_and_error",
    "numbers_of",
    "outcome",
    "redraw",
    "report_claims",
    "report_stored",
    "rows_text",
    "run_check",
    "run_experiments",
    "terminal_width",
    "text_table",
    "write_page",
]
