"""Loggers: the files that each trial gets, and callbacks that write them by hand."""

from __future__ import annotations

from holdfast.logger.base import LoggerCallback
from holdfast.logger.csv import CSVLoggerCallback
from holdfast.logger.files import TrialFiles
from holdfast.logger.json import JsonLoggerCallback
from holdfast.logger.pretty import pretty_print
from holdfast.logger.tensorboard import TBXLoggerCallback

__all__ = ["CSVLoggerCallback", "JsonLoggerCallback", "LoggerCallback", "TBXLoggerCallback", "TrialFiles", "pretty_print"]
