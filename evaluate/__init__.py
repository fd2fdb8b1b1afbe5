"""Evaluation of condensed sets: protocols, scores, reports. Installed as `condense.evaluate`.

The package is callable: `condense.evaluate(small, data)` is `condense.front_door.evaluate`.
"""
