"""How condensed sets are judged: protocols, scores, reports. Installed as `condense.evaluate`.

The package can be called: `condense.evaluate(small, data)` is `condense.front_door.evaluate`.
"""
