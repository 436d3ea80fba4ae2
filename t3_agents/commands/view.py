"""Read the trajectories of a run in the browser, or write them as one HTML page."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ..errors import InputError, T3Error
from ..options import Positional
from ..storage import write_atomic
from .guard import refusal


HOST = "127.0.0.1"


@dataclass
class ViewConfig:
    """Read the trajectories of a run in the browser.

    Args:
        run (`str`): folder with trajectories: of `t3 eval`, `t3 build` or `t3 run --output`.
        port (`int`, *optional*, defaults to 0): port on this machine; a free one by default.
        output (`str`, *optional*): write the page to this file instead of serving it.
    """

    run: Positional[str]
    port: int = 0
    output: str | None = None


def page_of(run: str | Path) -> str:
    """The HTML page of a run folder as it is now.

    Args:
        run (`str` or `Path`): output folder of `t3 eval`, `t3 build` or `t3 run`.

    Raises:
        InputError: when there are no trajectories in it, or one cannot be read.
    """
    from ..evaluation.results import Attempt, ScoredRun, in_reading_order
    from ..evaluation.run import BLOBS_FOLDER, TRAJECTORIES_FILE
    from ..reports.page import render_page
    from ..storage import BlobStore, read_rows
    from ..trajectory import Trajectory

    folder = Path(run)
    if (folder / TRAJECTORIES_FILE).is_file():
        scored = ScoredRun.read(folder)
    else:
        blobs = BlobStore(folder / BLOBS_FOLDER)
        shards = sorted(folder.glob("shards/*.jsonl"))
        single = folder / "trajectory.json"
        records = [row for shard in shards for row in read_rows(shard)]
        if single.is_file():
            records.append(_read_single(single))
        trajectories = in_reading_order(Trajectory.from_dict(record, blobs) for record in records)
        scored = ScoredRun(folder.resolve().name, [Attempt(trajectory) for trajectory in trajectories])
    if not scored.attempts:
        raise InputError(
            f"{folder} holds no trajectories: name the output folder of `t3 eval`, `t3 build` or `t3 run`."
        )
    return render_page([scored], hide=[folder])


def _read_single(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(f"{path} is not JSON: run `t3 run` again with another output folder.") from None


def make_server(render: Callable[[], str], port: int = 0) -> tuple[ThreadingHTTPServer, str]:
    """A server of one page, reachable from this machine only.

    The page lies under an address that cannot be guessed, because other users of this machine reach the port too. A
    request that names another host is refused, so that no web page can read it through a name of its own.

    Args:
        render (`Callable[[], str]`): makes the page, at every request, so that a reload shows what is new.
        port (`int`, *optional*, defaults to 0): a free one by default.

    Returns:
        `tuple[ThreadingHTTPServer, str]`: the server, which listens but does not serve yet, and the page's URL.

    Raises:
        InputError: when the port cannot be had.
    """
    path = f"/{secrets.token_urlsafe(16)}/"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reason = refusal(self.headers.items(), HOST)
            if reason:
                self._answer(403, reason)
            elif self.path != path:
                self._answer(404, "There is no such page.")
            else:
                try:
                    self._answer(200, render(), "text/html; charset=utf-8")
                except (T3Error, OSError) as error:
                    self._answer(500, f"The run cannot be read: {error}")

        def _answer(self, status: int, text: str, media_type: str = "text/plain; charset=utf-8") -> None:
            body = text.encode("utf-8", errors="replace")
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("X-Frame-Options", "DENY")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: the terminal keeps showing the address."""

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        raise InputError(f"Port {port} cannot be used ({error}): name another one with --port.") from None
    return server, f"http://{HOST}:{server.server_port}{path}"


def main(config: ViewConfig) -> int:
    """`t3 view RUN`: serve the page until Ctrl-C, or write it with `--output`."""
    page = page_of(config.run)  # a mistake shows before a server is started
    if config.output:
        write_atomic(Path(config.output), page)
        print(f"Page: {config.output}")
        return 0
    server, url = make_server(lambda: page_of(config.run), config.port)
    print(f"Open {url}\nIt is served on this machine only, until Ctrl-C.", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
    return 0
