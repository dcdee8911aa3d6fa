"""`make audit`: known vulnerabilities of the versions in requirements.lock, by pip-audit.

It says what was not looked up: where the advisory database cannot be reached, pip-audit skips every package and still
ends with "No known vulnerabilities found".
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND = ("pip-audit", "--requirement", ROOT / "requirements.lock", "--no-deps", "--disable-pip", "--format", "json")


def verdict(dependencies: list[dict]) -> tuple[int, str]:
    """The exit status, 1 for a known vulnerability, and what to say of pip-audit's list of dependencies."""
    audited = [entry for entry in dependencies if "skip_reason" not in entry]
    if not audited:
        return 0, f"pip-audit: not run: none of the {len(dependencies)} packages is in a database that can be reached"
    found = [
        f"{entry['name']} {entry['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions']) or 'none'}"
        for entry in audited
        for fault in entry["vulns"]
    ]
    skipped = f", {len(dependencies) - len(audited)} not looked up" if len(audited) < len(dependencies) else ""
    head = f"pip-audit: {len(found)} known vulnerabilities in {len(audited)} packages{skipped}"
    return int(bool(found)), "\n".join([head, *found])


def main() -> None:
    """Audit the lock."""
    done = subprocess.run(COMMAND, capture_output=True, text=True)
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"pip-audit: not run: {last}")
        return
    status, text = verdict(dependencies)
    print(text)
    sys.exit(status)


if __name__ == "__main__":
    main()
