"""Print the command of README.md that stands below the first line containing the words given.

    python .ci/readme_command.py "run the main job"

Standard library alone: it runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def command(readme: str, words: str) -> str:
    """The first fenced block after `words`. Raises `SystemExit` where there is none."""
    found = re.search(re.escape(words) + r".*?\n```[a-z]*\n(.*?)\n```", readme, re.DOTALL)
    if found is None:
        raise SystemExit(f"README.md has no command below the words {words!r}.")
    return found[1]


if __name__ == "__main__":
    print(command((Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8"), sys.argv[1]))
