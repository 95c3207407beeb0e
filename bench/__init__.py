"""Measurements, as ratios in one run on one machine against what people would use instead."""
