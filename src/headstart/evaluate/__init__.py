"""Metrics with intervals: arrays in, records out."""
