"""The demo."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

from bench.places import Places
from bench.report import Report


def anywhere(report: Report, places: Places) -> None:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "perdure.demo", "--yes"], cwd=folder, check=True, capture_output=True)
        report.line("the demo, after installation", time.perf_counter() - began, "s", most=30)
