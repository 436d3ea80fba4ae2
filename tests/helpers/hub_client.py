"""Running the real client in a process of its own, with an empty cache, against the server of the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.helpers import ROOT
from tests.helpers.hub_server import WRITE, HubServer, client_environment


class Client:
    """A user's machine: everything it runs sees only the server, and each process begins with an empty cache.

    Args:
        server ([`HubServer`]): the Hub.
        folder (`Path`): for caches.
    """

    def __init__(self, server: HubServer, folder: Path):
        self.server, self.folder = server, folder
        self.number = 0
        self.output = ""

    def t3(self, *arguments: Any, token: str | None = WRITE, **environment: str) -> subprocess.CompletedProcess:
        """Run `t3`; what it printed is also kept in `output`, with that of all other calls."""
        command = [sys.executable, "-m", "t3_agents.cli", *map(str, arguments)]
        return self._run(command, token, environment)

    def python(self, code: str, token: str | None = WRITE, **environment: str) -> Any:
        """Run code that assigns `result`, and give it back."""
        program = f"import json\n{code}\nprint('\\nRESULT ' + json.dumps(result))"
        done = self._run([sys.executable, "-c", program], token, environment)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.rpartition("RESULT ")[2])

    def _run(self, command: list[str], token: str | None, environment: dict[str, str]) -> subprocess.CompletedProcess:
        self.number += 1
        home = environment.pop("home", None) or self.folder / f"home{self.number}"
        values = client_environment(self.server.url, home, token)
        values |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error", **environment}
        done = subprocess.run(command, env=values, capture_output=True, text=True, timeout=300, cwd=self.folder)
        self.output += done.stdout + done.stderr
        return done
