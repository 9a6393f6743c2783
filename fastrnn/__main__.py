"""The command line: ``python -m fastrnn info``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from fastrnn import __version__, info


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status, 1 where a setting cannot be followed."""
    parser = argparse.ArgumentParser(prog="python -m fastrnn", description="fastrnn's tools")
    parser.add_argument("--version", action="version", version=f"fastrnn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "info", help="what fastrnn runs on here, and why", description=info.__doc__
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)

    found = info.collect(__version__)
    print(json.dumps(found, indent=2) if chosen.json else info.render(found))
    return int(any("error" in section for section in found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
