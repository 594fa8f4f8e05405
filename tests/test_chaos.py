"""What script/chaos proves in full, in short: whatever is killed, nothing that was acknowledged is lost."""

import faulthandler
import subprocess
import sys

from chaos.scenarios import SCENARIOS
from tests.parley import ROOT

LONGEST_SECONDS = 600  # on a machine that does other things


def test_the_short_run_of_every_figure_finds_no_broken_promise(tmp_path):
    faulthandler.cancel_dump_traceback_later()  # it takes longer than any other test may, and has a bound of its own
    journal = tmp_path / "chaos.jsonl"
    command = [sys.executable, "-m", "chaos.run", "--short", "--journal", str(journal)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    print(done.stdout)
    for scenario in SCENARIOS.values():
        assert f'"figure": "{scenario.name}"' in journal.read_text() or scenario.needs(), f"{scenario.name} did not run"
