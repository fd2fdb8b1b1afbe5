"""The referee: protocols, scores and reports. Installed as `condense.evaluate`."""
