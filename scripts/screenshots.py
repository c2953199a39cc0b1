"""Makes the pictures in docs/images again, from `lso demo` on a service of its own.

    .venv/bin/python scripts/screenshots.py [--minutes 12]

The demo has to run for a while, or there is no history to show. Needs a Chromium on the PATH.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from playwright.sync_api import Browser

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.bench import _target
from tests.browsers import find_chromium, running_browser

IMAGES: Final = _target.ROOT / "docs" / "images"


class Shot(NamedTuple):
    """One picture."""

    name: str
    path: str
    """`{system}` stands for the system that is worst when it is taken."""
    width: int
    height: int
    dark: bool = False


SHOTS: Final = (
    Shot("fleet", "/", 1280, 520),
    Shot("fleet-dark", "/?group=tag", 1600, 900, dark=True),
    Shot("system", "/systems/{system}?range=15m", 1280, 1400),
    Shot("phone-fleet", "/", 390, 844, dark=True),
    Shot("phone-system", "/systems/{system}?range=15m", 390, 844),
)


def main() -> None:
    """Run the demo, then look at it."""
    parser = argparse.ArgumentParser(description="pictures of the dashboard for the documentation")
    parser.add_argument("--minutes", type=float, default=12, help="how long the demo runs before")
    minutes = parser.parse_args().minutes
    if find_chromium() is None:
        raise SystemExit("there is no Chromium on the PATH")
    IMAGES.mkdir(exist_ok=True)
    with _target.service(None, ["--api-processes", "1"]) as served:
        command = [sys.executable, "-m", "lso_core.cli.lso", "demo", "--url", served.url]
        with subprocess.Popen(command, cwd=_target.ROOT) as demo:
            try:
                time.sleep(minutes * 60)
                _target.wait_for(lambda: _target.get(f"{served.url}/health")["worst"] == "UNHEALTHY", 400, 1)
                time.sleep(20)  # in the middle of trouble, not at its beginning
                with running_browser() as browser:
                    for shot in SHOTS:
                        take(browser, served.url, shot)
            finally:
                demo.terminate()


def take(browser: Browser, url: str, shot: Shot) -> None:
    """Take one picture, once everything on it has come."""
    worst = _target.get(f"{url}/health")["items"][0]["system_id"]
    with browser.new_context(
        viewport={"width": shot.width, "height": shot.height},
        color_scheme="dark" if shot.dark else "light",
        locale="en-GB",
    ) as context:
        page = context.new_page()
        page.goto(url + shot.path.format(system=worst))
        page.locator(".tile, .events li").first.wait_for()
        page.wait_for_timeout(4_000)
        page.screenshot(path=IMAGES / f"{shot.name}.png")
    print(f"docs/images/{shot.name}.png")


if __name__ == "__main__":
    main()
