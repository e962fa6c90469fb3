"""Evaluation: metrics, protocols and calibration."""
