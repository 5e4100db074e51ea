"""What a report of pip-audit means: 0 nothing known, 1 a known hole, 3 nobody was asked."""

import json
import sys
from pathlib import Path


def main(report: Path) -> int:
    """Print what is known; the exit status."""
    try:
        packages = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
    except (OSError, ValueError, KeyError):
        return 3
    asked = [package for package in packages if "vulns" in package]
    if not asked:
        return 3
    known = [(package, found) for package in asked for found in package["vulns"]]
    for package, found in known:
        mended = ", ".join(found["fix_versions"]) or "no version yet"
        print(f"audit: {package['name']} {package['version']}: {found['id']}, mended in {mended}")
    print(f"audit: {len(asked)} of {len(packages)} packages asked about, {len(known)} known holes")
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
