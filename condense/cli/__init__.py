"""The command line `dmis`: each command parses its options, calls one function of `condense.commands` and prints.

Exit codes: 0 done, 1 failed, 2 usage, recipe or input error, 130 interrupted. With `--json` stdout holds one
object and everything else goes to stderr. Nothing heavy is imported before a command runs.
"""

from condense.cli.app import app, main, run

__all__ = ["app", "main", "run"]
