"""DMIS: condense image data sets whose labels are wrong, ambiguous or missing."""

__version__ = "0.1.0"
