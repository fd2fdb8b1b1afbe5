"""Condensed sets: the value, its HDF5 file, other file forms, and how a method fills one in."""
