"""Condensed sets: the value, its HDF5 file, export to other formats, and the record that methods fill in."""
