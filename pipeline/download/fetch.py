"""HTTP downloads that survive being killed: a work folder keeps what came, and the next call asks
for the rest.

For each address, under the sha256 of its URL: `.part` (bytes so far), `.json` (what the server said
of them), and, once complete, the file without an ending and `.seen`, the same of that one. Ranges
and validators: RFC 9110, sections 13.1 (If-None-Match, If-Modified-Since, If-Range), 14 (Range),
15.4.5 (304) and 15.5.17 (416)."""

import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import FileIO
from pathlib import Path

import requests
import urllib3

from pipeline.core.atomic import replace_file
from pipeline.core.errors import naming, shown
from pipeline.download import archives, headers, partial
from pipeline.download.budget import Account
from pipeline.download.destinations import Zone, redirect_target, zone_of_host
from pipeline.download.failures import DownloadError
from pipeline.download.partial import Note
from pipeline.download.progress import progress
from pipeline.download.transport import Transport

_CHUNK = 1 << 16
# bytes beyond all earlier attempts that make the next attempt count as the first again
_WORTHWHILE = 1 << 20
_LONGEST_PAUSE = 60.0
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)


class _Passing(Exception):
    """A failure that may pass: worth another attempt after `wait` seconds at least."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Unreachable(_Passing):
    """No connection to the host at all, so that its other addresses need not be tried."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds to wait for a connection and for silence to end; attempts in all; seconds before the
    second, then doubled."""

    connect: float
    silence: float
    attempts: int
    pause: float


DEFAULT_RETRIES = RetryPolicy(connect=10.0, silence=30.0, attempts=4, pause=1.0)


@dataclass(frozen=True, slots=True)
class Limits:
    """The most bytes that a plain file, and that a container, may have."""

    plain: int
    container: int


class _Session(requests.Session):
    """A session that leaves redirects alone: it would read their bodies, however long, even where
    it does not follow."""

    def resolve_redirects(self, *_: object, **__: object) -> Iterator[requests.Response]:  # type: ignore[override]
        return iter(())


class Fetcher:
    """Fetches addresses into the folder `work` for one corpus; a host that cannot be reached is not
    tried again.

    All exchanges go on one account; once its budget is spent, every address is `BudgetSpent`.
    """

    def __init__(
        self, corpus: str, work: Path, account: Account, patience: RetryPolicy = DEFAULT_RETRIES
    ) -> None:
        self._corpus, self._work, self._patience = corpus, work, patience
        self.account = account
        self._transport = Transport(account)
        self._session = _Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._transport)
        self._dead: dict[str, str] = {}
        self._requested: set[Path] = set()
        self.outdated = False  # True once an older copy was used for a file

    @property
    def unfinished(self) -> bool:
        """True if the work folder has part of a file that this fetcher was asked for."""
        return any(partial.size(partial.part(target)) for target in self._requested)

    def stem(self, url: str) -> Path:
        """Path of this address's complete file, once it was received."""
        return self._work / sha256(url.encode()).hexdigest()

    def discard(self, url: str) -> None:
        """Forget what came from the address."""
        partial.drop(self.stem(url))

    def fetch(self, url: str, limits: Limits) -> tuple[Path, bool]:
        """Fetch `url`; return its file, and whether all of it was received in this call.

        `DownloadError` if it cannot be fetched.
        """
        target = self.stem(url)
        if target.exists():
            return target, False
        fresh = not partial.size(partial.part(target))
        self._insist(url, target, limits, None)
        return target, fresh

    def renew(self, url: str, limits: Limits) -> Path:
        """The file as the server has it now, sent only if it changed; what came before stays until
        the new one is complete.

        `DownloadError` if the server does not answer: then `stem(url)` may still hold the old one.
        """
        target = self.stem(url)
        conditions = (
            partial.read_note(partial.complete_note(target)).conditions() if target.exists() else {}
        )
        self._insist(url, target, limits, conditions)
        return target

    def _insist(
        self, url: str, target: Path, limits: Limits, conditions: Mapping[str, str] | None
    ) -> None:
        """Transfer with patience; `DownloadError` when it ends."""
        host = urllib.parse.urlsplit(url).netloc
        if host in self._dead:
            raise DownloadError(self._dead[host])
        self._requested.add(target)
        failures = 0
        furthest = partial.size(partial.part(target))
        while True:
            try:
                self._transfer(url, target, limits, conditions)
                return
            except _Passing as error:
                # Only bytes beyond the longest attempt are progress: a file that starts anew each
                # time makes none.
                gained = partial.size(partial.part(target)) - furthest
                furthest += max(gained, 0)
                failures = 1 if gained >= _WORTHWHILE else failures + 1
                if failures >= self._patience.attempts:
                    if isinstance(error, _Unreachable):
                        self._dead[host] = str(error)
                    raise DownloadError(f"{error}, {failures} times") from None
                self.account.check()
                time.sleep(
                    min(max(error.wait, self._patience.pause * 2 ** (failures - 1)), _LONGEST_PAUSE)
                )

    def _transfer(
        self, url: str, target: Path, limits: Limits, conditions: Mapping[str, str] | None
    ) -> None:
        """One attempt: from the start, or from where the last one stopped; nothing if the server
        says that nothing changed.

        Without conditions the bytes' hash is known, and tells later what two versions would make
        together."""
        part, note = partial.part(target), partial.read_note(partial.part_note(target))
        if conditions is not None and not note.validator:
            partial.drop_part(target)
        have = partial.size(part)
        # else it was killed between the last byte and the renaming
        if not have or note.total != have:
            with self._ask(url, have, note, conditions) as response:
                if response.status_code == 304 and conditions and not have:
                    return
                complete = {headers.content_range(response)[1], note.total} <= {None, have}
                if response.status_code != 416 or not have or not complete:
                    start = self._start(response, target, have, note)
                    self._receive(response, target, start, limits, f"{self._corpus} {shown(url)}")
        # first, so that it never describes other bytes
        partial.complete_note(target).unlink(missing_ok=True)
        replace_file(part, target)
        if partial.part_note(target).exists():
            replace_file(partial.part_note(target), partial.complete_note(target))

    @contextmanager
    def _ask(
        self, url: str, have: int, note: Note, conditions: Mapping[str, str] | None
    ) -> Iterator[requests.Response]:
        """Response to a request for the file, after at most `_MOST_REDIRECTS` redirects."""
        request = {"Accept-Encoding": "identity", **({} if have else conditions or {})}
        if have:
            request["Range"] = f"bytes={have}-"
            if note.validator:
                request["If-Range"] = note.validator

        address, nearest = url, Zone.LOOPBACK
        for _ in range(_MOST_REDIRECTS + 1):
            with self._exchange(address, request, nearest) as response:
                location = response.headers.get("Location")
                if response.status_code not in _REDIRECTS or location is None:
                    yield response
                    return
                nearest = self._zone(address)
            address = redirect_target(address, location, nearest)
        raise DownloadError(f"over {_MOST_REDIRECTS} redirects")

    @contextmanager
    def _exchange(
        self, address: str, request: Mapping[str, str], nearest: Zone
    ) -> Iterator[requests.Response]:
        """Response to one request with these headers; a redirect's body is never read."""
        if zone_of_host(urllib.parse.urlsplit(address).hostname or "") is Zone.FORBIDDEN:
            raise DownloadError("a link-local, multicast or metadata address, which is never asked")
        timeout = (self._patience.connect, self._patience.silence)
        self._transport.begin(nearest)
        with self.account.exchange():
            try:
                response = self._session.get(
                    address,
                    headers=dict(request),
                    stream=True,
                    timeout=timeout,
                    allow_redirects=False,
                )
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                raise self._judged(error) from None
            except (ValueError, OverflowError) as error:  # http.client's, for headers that are none
                raise _Passing(f"broke off ({type(error).__name__})") from None
            with response:
                yield response

    def _zone(self, address: str) -> Zone:
        """Zone of the server that answered last; behind a proxy, the zone that its address
        names."""
        if self._transport.zone is not None:
            return self._transport.zone
        return zone_of_host(urllib.parse.urlsplit(address).hostname or "")

    def _body(self, response: requests.Response) -> Iterator[bytes]:
        """Chunks of the response's body, still encoded as sent."""
        try:
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                self._transport.delivered()
                yield chunk
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise self._judged(error) from None
        except (ValueError, OverflowError) as error:  # a chunk of a negative size, for one
            raise _Passing(f"broke off ({type(error).__name__})") from None

    def _judged(self, error: Exception) -> DownloadError | _Passing:
        """Classify a failed exchange: some failures may pass, others will not."""
        if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
            return _Passing(f"silent for {self._patience.silence:g} s")
        if isinstance(error, requests.ConnectTimeout):
            return _Unreachable(f"no connection within {self._patience.connect:g} s")
        if isinstance(error, requests.exceptions.SSLError):
            return DownloadError(f"no trusted connection ({_cause(error)})")
        if isinstance(error, requests.ConnectionError):
            refused = error.args and isinstance(error.args[0], urllib3.exceptions.MaxRetryError)
            return (_Unreachable if refused else _Passing)(f"no connection ({_cause(error)})")
        if isinstance(error, urllib3.exceptions.HTTPError):
            return _Passing(f"broke off ({_cause(error)})")
        return DownloadError(_cause(error))

    def _start(self, response: requests.Response, target: Path, have: int, note: Note) -> int:
        """From which byte the answer's body goes on; the answers that bring no body raise."""
        status = response.status_code
        if status == 200:
            return 0
        if status == 206 and have and headers.continues(response, have, note):
            return have
        if have and status in (206, 416):
            partial.drop_part(target)
            raise _Passing("its file changed during the download")
        if status in (408, 425, 429) or status >= 500:
            raise _Passing(
                headers.status(response),
                float(headers.number(response.headers.get("Retry-After", "")) or 0),
            )
        raise DownloadError(headers.status(response))

    def _receive(
        self, response: requests.Response, target: Path, start: int, limits: Limits, label: str
    ) -> None:
        """Append the body to `.part`; `_Passing` if it ends early, `DownloadError` if it is too
        large."""
        part = partial.part(target)
        total = headers.content_range(response)[1] if start else headers.content_length(response)
        if total is not None and total > limits.container:
            raise DownloadError(f"{total} bytes, over the {limits.container} that are allowed")
        if not start:
            part.unlink(missing_ok=True)
            partial.write_note(
                partial.part_note(target),
                Note(
                    headers.validator(response, "ETag"),
                    headers.validator(response, "Last-Modified"),
                    total,
                ),
            )
        have = start
        with part.open("ab", buffering=0) as file, progress(label, start, total) as advance:
            for chunk in self._body(response):
                with naming(part):
                    _write(file, chunk)
                have += len(chunk)
                advance(len(chunk))
                if have > limits.container or (
                    have > limits.plain and archives.kind(part) == "plain"
                ):
                    partial.drop_part(target)
                    raise DownloadError(
                        f"over {limits.container if have > limits.container else limits.plain} "
                        "bytes"
                    )
        if total is not None and have < total:
            raise _Passing(f"ended after {have} of {total} bytes")
        if not have:
            partial.drop_part(target)
            raise DownloadError("an empty file")


def _write(file: FileIO, chunk: bytes) -> None:
    """Write all of the chunk: a disk that is filling up takes a part of it and says so, and refuses
    the next."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _cause(error: BaseException) -> str:
    """The innermost cause in a few words; the outer ones repeat the address with its query."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(getattr(error, "strerror", None) or type(error).__name__).split())
