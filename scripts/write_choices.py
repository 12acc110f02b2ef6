"""Writes the tables of what can be chosen, read from conf/, into docs/reference/options.md between two markers.

Usage: python scripts/write_choices.py [--check]; with --check nothing is written, and 1 means that it is not current.
"""

import argparse
import sys
from pathlib import Path

from medseg.hydra_app import options
from medseg.hydra_app.conf import conf_dir
from medseg.runtime.atomic import write_whole

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "options.md"
BEGIN = "<!-- choices: written by scripts/write_choices.py from conf/ -->"
END = "<!-- end of choices -->"


def filled(text: str) -> str:
    """The text with what lies between the markers written anew."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{PAGE}: expected the markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{options.markdown(options.groups('train', [conf_dir()]))}\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page is not current")
    check = parser.parse_args().check
    text = PAGE.read_text(encoding="utf-8")
    current = filled(text)
    if check and current != text:
        print("docs/reference/options.md is not current; run python scripts/write_choices.py")
        return 1
    if not check:
        write_whole(PAGE, current)
    return 0


if __name__ == "__main__":
    sys.exit(main())
