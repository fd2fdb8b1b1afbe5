"""The steps from a request to its result: plans, data, run folders, costs, repaired labels, sets, scores."""
