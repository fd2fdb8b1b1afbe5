"""EDM diffusion models robust to imprecise labels (DMIS)."""
