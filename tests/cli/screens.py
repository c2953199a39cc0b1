"""A real terminal, by tmux: what is on it, and typing into it."""

import subprocess
from collections.abc import Mapping

from tests.waiting import wait_for


class Screen:
    """One terminal that runs one shell command, and stays when that ends."""

    def __init__(
        self, program: str, socket: str, command: str, width: int, height: int, environ: Mapping[str, str]
    ) -> None:
        self._tmux = (program, "-S", socket, "-f", "/dev/null")
        self._environ = dict(environ)
        shell = f"{command}; status=$?; echo; echo ended with $status; stty -a | tr ' ' '\\n' | grep -E '^-?(echo|icanon);?$' | xargs; exec sleep 1000"
        self._run("new-session", "-d", "-x", str(width), "-y", str(height), shell)

    def text(self) -> str:
        """What is on the screen."""
        return self._run("capture-pane", "-p")

    def colours(self) -> str:
        """The same with escape sequences."""
        return self._run("capture-pane", "-p", "-e")

    def press(self, *keys: str) -> None:
        """Keys as tmux names them."""
        self._run("send-keys", *keys)

    def type(self, text: str) -> None:
        self._run("send-keys", "-l", "--", text)

    def resize(self, width: int, height: int) -> None:
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def shows(self, *texts: str, within: float = 10) -> str:
        """Wait until all of the texts are on the screen together; the screen."""

        def seen() -> str:
            text = self.text()
            return text if all(wanted in text for wanted in texts) else ""

        try:
            return wait_for(seen, f"the terminal shows {texts}", within)
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows:\n{self.text()}") from None

    def hang_up(self) -> None:
        """Close the window; whatever runs in it gets SIGHUP."""
        self._run("new-window", "-d", "exec sleep 1000")
        self._run("kill-window", "-t", ":0")

    def close(self) -> None:
        """End the terminal and what runs in it."""
        self._run("kill-server")

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            [*self._tmux, *words], env=self._environ, capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout
