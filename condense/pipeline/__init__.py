"""From what was asked for to what is done: plans, data, run folders, costs, repaired labels, sets, scores."""
