"""`python -m condense` is `dmis`."""

from condense.cli import main

main()
