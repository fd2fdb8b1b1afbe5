"""The referee: protocols, scores and reports. Installed as `condense.evaluate`.

The package can be called: `condense.evaluate(small, data)` is `condense.front_door.evaluate`.
"""
