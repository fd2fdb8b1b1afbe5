"""The training of a generator: objectives, loop, session, one stage or two."""
