"""Reading web pages: what is fetched, how much of it, from where, and how it becomes text."""

from __future__ import annotations

import html
import ipaddress
import os
import re
import socket
import time
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from t3_agents.errors import InputError, needs_extra
from t3_agents.media import kind_of


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
    with requests.Session() as session:
        if not _private_allowed():
            _refuse_private(session)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                _check_url(url)
                left = max(0.1, deadline - time.monotonic())
                with session.get(url, headers=_HEADERS, timeout=left, stream=True, allow_redirects=False) as reply:
                    if reply.is_redirect:
                        url = urljoin(url, reply.headers["location"])
                        continue
                    if reply.status_code != 200:
                        kind = NoPageError if reply.status_code in (401, 403, 404, 410, 451) else InputError
                        raise kind(f"{url} cannot be read: {reply.status_code} {reply.reason}.")
                    data, whole = _body(reply, deadline)
                    return _to_page(url, data, whole, reply.headers.get("content-type", ""))
        except InputError:
            raise
        except requests.Timeout:
            raise InputError(f"{url} did not answer in time.") from None
        except (requests.RequestException, OSError, ValueError) as error:
            raise InputError(f"{url} cannot be reached ({type(error).__name__}).") from None
    raise InputError(f"{url} redirects more than {MAX_REDIRECTS} times.")


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
    try:
        public = is_public(parts.hostname)
    except ValueError:
        public = not parts.hostname.endswith(("localhost", ".local", ".internal"))
    if not public and not _private_allowed():
        raise InputError(f"{url} is a private address and is not visited.")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet, not of this machine or a private network."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    inner = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (inner or ip).is_global and not (inner or ip).is_multicast


def _refuse_private(session: Any) -> None:
    """Check the address that a session is really connected to: a name may be resolved differently each time."""
    from requests.adapters import HTTPAdapter
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    def checked(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
        class Connection(pool.ConnectionCls):
            def _new_conn(self) -> socket.socket:
                connected = super()._new_conn()
                if not is_public(connected.getpeername()[0]):
                    connected.close()
                    raise InputError(f"{self.host} is a private address and is not visited.")
                return connected

        return type(pool.__name__, (pool,), {"ConnectionCls": Connection})

    adapter = HTTPAdapter(max_retries=0)
    pools = {"http": checked(HTTPConnectionPool), "https": checked(HTTPSConnectionPool)}
    adapter.poolmanager.pool_classes_by_scheme = pools
    session.mount("http://", adapter)
    session.mount("https://", adapter)
