"""Readings of a meter, and what they come to."""

from meter.readings import readings
from meter.summary import Summary, summary

__all__ = ["Summary", "readings", "summary"]
