"""Reading web pages: what is fetched, how much of it, from where, and how it becomes text."""

from __future__ import annotations

import html
import ipaddress
import os
import re
import socket
import threading
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urljoin, urlsplit

from t3_agents.errors import InputError, needs_extra
from t3_agents.media import kind_of


if TYPE_CHECKING:
    import requests

Result = TypeVar("Result")

MAX_BYTES = 8 * 2**20
MAX_CHARS = 400_000
MAX_REDIRECTS = 5
# Characters. Deeply nested tags cost kreuzberg time that grows with their square (700 KB: 2.6 s on one core).
_MAX_HTML = 1_000_000
# Some sites refuse clients without a browser's name.
_HEADERS = {
    "User-Agent": "Mozilla/5.0 (compatible; t3-agents)",
    "Accept": "text/html,application/xhtml+xml,application/pdf,text/*;q=0.9,*/*;q=0.5",
}
_TEXT = re.compile(r"text/|application/(json|xml|xhtml\+xml|javascript|.*\+(json|xml))\b")


class NoPageError(InputError):
    """There is no readable page at an address, and asking again would not change that."""


class Page(NamedTuple):
    """A page as text.

    Args:
        url (`str`): where it was found after redirects.
        title (`str`): its title, else the last part of the URL.
        text (`str`): Markdown of a web page, the plain text of other documents; at most 400,000 characters.
    """

    url: str
    title: str
    text: str


def fetch_page(url: str, seconds: float) -> Page:
    """Download a page and turn it into text.

    Addresses of this machine and of private networks are refused, also as the target of a redirect or of a name,
    because a page or a query could ask for them; `T3_ALLOW_PRIVATE=1` in the environment allows them. Behind a proxy
    only literal addresses can be checked.

    Args:
        url (`str`): http or https.
        seconds (`float`): for everything, redirects included.

    Raises:
        NoPageError: when there is no such page, or it is no text or too large.
        InputError: when it cannot be reached, or not in time.
        MissingExtraError: when `kreuzberg` is not installed.
    """
    import requests

    deadline = time.monotonic() + seconds

    def get(session: requests.Session) -> tuple[str, bytes, bool, str]:
        target = url
        for _ in range(MAX_REDIRECTS + 1):
            _check_url(target)
            left = max(0.1, deadline - time.monotonic())
            with session.get(target, headers=_HEADERS, timeout=left, stream=True, allow_redirects=False) as reply:
                if reply.is_redirect:
                    target = urljoin(target, reply.headers["location"])
                    continue
                if reply.status_code != 200:
                    kind = NoPageError if reply.status_code in (401, 403, 404, 410, 451) else InputError
                    raise kind(f"{target} cannot be read: {reply.status_code} {reply.reason}.")
                return target, *_body(reply, deadline), reply.headers.get("content-type", "")
        raise InputError(f"{url} redirects more than {MAX_REDIRECTS} times.")

    try:
        page = in_time(get, seconds, allow_private=_private_allowed())
    except requests.Timeout:
        raise InputError(f"{url} did not answer in time.") from None
    except InputError:
        raise
    except (requests.RequestException, OSError, ValueError) as error:
        raise InputError(f"{url} cannot be reached ({type(error).__name__}).") from None
    return _to_page(*page)


def in_time(work: Callable[[requests.Session], Result], seconds: float, allow_private: bool) -> Result:
    """The result of requests that are made within a time: names, connections, headers and bodies included.

    Timeouts of sockets start anew with every byte, so a thread works, and at the end of the time its connections are
    shut.

    Args:
        work (`Callable`): is given a session.
        seconds (`float`): for everything.
        allow_private (`bool`): let the session talk to this machine and private networks.

    Raises:
        requests.Timeout: when the time is up.
    """
    import requests

    outcome: Future[Result] = Future()
    opened: list[socket.socket] = []

    def run() -> None:
        try:
            with requests.Session() as session:
                _watch(session, opened, allow_private)
                outcome.set_result(work(session))
        except BaseException as error:  # raised again below
            outcome.set_exception(error)

    threading.Thread(target=run, name="web", daemon=True).start()
    try:
        return outcome.result(seconds)
    except FutureTimeout:
        if outcome.done():
            raise
        raise requests.Timeout from None
    finally:
        for each in opened:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _body(reply: Any, deadline: float) -> tuple[bytes, bool]:
    """What a server sends, up to the limit, and whether that is all of it."""
    import urllib3

    data = bytearray()
    try:
        # `read1` returns what has come, so that a server that drips bytes does not outwait the deadline.
        while chunk := reply.raw.read1(2**16, decode_content=True):
            data += chunk
            if time.monotonic() > deadline:
                raise InputError(f"{reply.url} did not answer in time.")
            if len(data) > MAX_BYTES:
                return bytes(data[:MAX_BYTES]), False
    except urllib3.exceptions.ReadTimeoutError:
        raise InputError(f"{reply.url} did not answer in time.") from None
    except urllib3.exceptions.HTTPError as error:
        raise InputError(f"{reply.url} broke off ({type(error).__name__}).") from None
    return bytes(data), True


def _to_page(url: str, data: bytes, whole: bool, content_type: str) -> Page:
    name = urlsplit(url).path.rstrip("/").rpartition("/")[2] or urlsplit(url).netloc
    media_type = content_type.partition(";")[0].strip().lower()
    if kind_of(data) == "pdf":
        if not whole:
            raise NoPageError(f"{url} is a pdf of more than {MAX_BYTES // 2**20} MB and was not read.")
        return Page(url, name, _extract(url, data, "application/pdf")[:MAX_CHARS])
    if b"\0" in data[:4096] or (media_type and not _TEXT.match(media_type)):
        raise NoPageError(f"{url} is no page of text but {media_type or 'binary data'}; only its address is known.")
    text = _decode(data, content_type)
    title = ""
    if "html" in media_type or re.match(r"\s*<(!doctype html|html|head|body)\b", text, re.IGNORECASE):
        title, body = _split_html(text)
        text = _extract(url, body[:_MAX_HTML].encode(), "text/html")
    return Page(url, title or name, text[:MAX_CHARS].strip())


def _split_html(text: str) -> tuple[str, str]:
    """Title of a page, and what comes after its head, which would come out as text. No search goes back."""
    start = re.search(r"<title\b[^>]{0,200}>", text, re.IGNORECASE)
    end = re.compile(r"</title\s{0,9}>", re.IGNORECASE).search(text, start.end()) if start else None
    title = text[start.end() : min(end.start(), start.end() + 1000)] if start and end else ""
    cut = re.search(r"</head\s{0,9}>", text, re.IGNORECASE) or end
    return " ".join(html.unescape(title).split())[:200], text[cut.end() :] if cut else text


def _decode(data: bytes, content_type: str) -> str:
    named = re.search(r"charset=[\"']?([\w-]+)", content_type) or re.search(
        rb"<meta[^>]{0,200}charset=[\"']?([\w-]+)", data[:4096], re.IGNORECASE
    )
    charset = named.group(1) if named else "utf-8"
    try:
        return data.decode(charset.decode("ascii") if isinstance(charset, bytes) else charset, errors="replace")
    except LookupError:
        return data.decode("utf-8", errors="replace")


def _extract(url: str, data: bytes, media_type: str) -> str:
    """Text of a document, by kreuzberg."""
    with needs_extra("kreuzberg", "tools", "Reading web pages"):
        import kreuzberg
    form = "plain" if media_type == "application/pdf" else "markdown"
    config = kreuzberg.ExtractionConfig(
        use_cache=False, disable_ocr=True, output_format=form, extraction_timeout_secs=10
    )
    try:
        content = kreuzberg.extract_bytes_sync(data, media_type, config=config).content
    except kreuzberg.KreuzbergError as error:
        raise NoPageError(f"{url} cannot be read as text ({type(error).__name__}).") from None
    return re.sub(r"\n{3,}", "\n\n", content)


def _private_allowed() -> bool:
    return os.environ.get("T3_ALLOW_PRIVATE", "") not in ("", "0")


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"`{url}` is no web address: it must start with http:// or https://.")
    host = unicodedata.normalize("NFKC", parts.hostname).rstrip(".").lower()
    try:
        public = is_public(host if ":" in host else socket.inet_ntoa(socket.inet_aton(host)))
    except (OSError, ValueError):
        public = not host.endswith(("localhost", ".local", ".internal"))
    if not public and not _private_allowed():
        raise InputError(f"{url} is a private address and is not visited.")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet, not of this machine or a private network.

    An IPv6 address may stand for an IPv4 address, to which a gateway or the system takes it.
    """
    if "%" in address:
        return False
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast
    if ip.ipv4_mapped or ip in _NAT64:
        return is_public(str(ip.ipv4_mapped or ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    inner = [ip.sixtofour, *(ip.teredo or ())]
    if int(ip) >> 32 & 0xFCFFFFFF == 0x5EFE:  # ISATAP (RFC 5214)
        inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    is_ours = ip.is_multicast or ip.is_site_local or ip.is_reserved or ip.is_unspecified
    return ip.is_global and not is_ours and all(is_public(str(each)) for each in inner if each)


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _watch(session: requests.Session, opened: list[socket.socket], allow_private: bool) -> None:
    """Note a session's connections and check the address of each: a name may be resolved differently each time."""
    from requests.adapters import HTTPAdapter
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    def watched(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
        class Connection(pool.ConnectionCls):
            def _new_conn(self) -> socket.socket:
                connected = super()._new_conn()
                if not allow_private and not is_public(connected.getpeername()[0]):
                    connected.close()
                    raise InputError(f"{self.host} is a private address and is not visited.")
                opened.append(connected.dup())
                return connected

        return type(pool.__name__, (pool,), {"ConnectionCls": Connection})

    adapter = HTTPAdapter(max_retries=0)
    pools = {"http": watched(HTTPConnectionPool), "https": watched(HTTPSConnectionPool)}
    adapter.poolmanager.pool_classes_by_scheme = pools
    session.mount("http://", adapter)
    session.mount("https://", adapter)
