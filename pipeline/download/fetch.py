"""HTTP downloads that resume after a kill: a work folder keeps the received bytes, and the next
call requests the rest.

For each address, under the sha256 of its URL: `.part` (bytes so far) and `.json` (the server's
description of them). Once complete: the file without an ending, and its description as `.seen`.

Ranges and validators: RFC 9110, sections 13.1 (If-None-Match, If-Modified-Since, If-Range), 14
(Range), 15.4.5 (304) and 15.5.17 (416)."""

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
from pipeline.core.errors import name_file_in_errors, redact
from pipeline.download import archives, headers, partial
from pipeline.download.budget import Account
from pipeline.download.destinations import Zone, redirect_target, zone_of_host
from pipeline.download.failures import DownloadError
from pipeline.download.partial import Note
from pipeline.download.progress import progress
from pipeline.download.transport import Transport

_CHUNK = 1 << 16
# Bytes beyond all earlier attempts after which the count of failures begins again.
_PROGRESS_BYTES = 1 << 20
_LONGEST_PAUSE = 60.0
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)


class _TransientError(Exception):
    """A failure that may pass: try again after at least `wait` seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _HostUnreachable(_TransientError):
    """No connection to the host at all: its other addresses need not be tried."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Timeouts and retries of a transfer.

    `connect` and `silence`: seconds to wait for a connection, and for the next bytes. `attempts`:
    attempts in all. `pause`: seconds before the second attempt, doubled before each later one.
    """

    connect: float
    silence: float
    attempts: int
    pause: float


DEFAULT_RETRIES = RetryPolicy(connect=10.0, silence=30.0, attempts=4, pause=1.0)


@dataclass(frozen=True, slots=True)
class Limits:
    """Maximum bytes of a plain file and of a container."""

    plain: int
    container: int


class _Session(requests.Session):
    """A session without redirects: requests would read their bodies, of any length, even if it does
    not follow them."""

    def resolve_redirects(self, *_: object, **__: object) -> Iterator[requests.Response]:  # type: ignore[override]
        return iter(())


class Fetcher:
    """Fetch addresses into the folder `work` for one corpus.

    A host that cannot be reached is not tried again. All exchanges are charged to one account; once
    its budget is spent, every address raises `BudgetSpent`.
    """

    def __init__(
        self, corpus: str, work: Path, account: Account, retry_policy: RetryPolicy = DEFAULT_RETRIES
    ) -> None:
        self._corpus = corpus
        self._work = work
        self._retry_policy = retry_policy
        self.account = account
        self._transport = Transport(account)
        self._session = _Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._transport)
        self._unreachable_hosts: dict[str, str] = {}
        self._requested: set[Path] = set()
        self.outdated = False  # True once an older copy was used in place of a file

    @property
    def unfinished(self) -> bool:
        """True if the work folder has part of a requested file."""
        return any(partial.size(partial.part(target)) for target in self._requested)

    def stem(self, url: str) -> Path:
        """Path of the address's complete file in the work folder."""
        return self._work / sha256(url.encode()).hexdigest()

    def discard(self, url: str) -> None:
        """Delete everything received from the address."""
        partial.drop(self.stem(url))

    def fetch(self, url: str, limits: Limits) -> tuple[Path, bool]:
        """Fetch `url`; return its file, and whether all of it was received in this call.

        `DownloadError` if it cannot be fetched.
        """
        target = self.stem(url)
        if target.exists():
            return target, False
        fresh = not partial.size(partial.part(target))
        self._transfer_with_retries(url, target, limits, None)
        return target, fresh

    def renew(self, url: str, limits: Limits) -> Path:
        """Fetch the server's current file, which is sent only if it changed.

        The previous file stays until the new one is complete.

        `DownloadError` if the server does not answer: then `stem(url)` may still hold the old one.
        """
        target = self.stem(url)
        conditions = (
            partial.read_note(partial.complete_note(target)).conditions() if target.exists() else {}
        )
        self._transfer_with_retries(url, target, limits, conditions)
        return target

    def _transfer_with_retries(
        self, url: str, target: Path, limits: Limits, conditions: Mapping[str, str] | None
    ) -> None:
        """Transfer, and retry transient failures; `DownloadError` after the last attempt."""
        host = urllib.parse.urlsplit(url).netloc
        if host in self._unreachable_hosts:
            raise DownloadError(self._unreachable_hosts[host])

        self._requested.add(target)
        failures = 0
        furthest = partial.size(partial.part(target))
        while True:
            try:
                self._transfer(url, target, limits, conditions)
                return
            except _TransientError as error:
                # Only bytes beyond the longest attempt are progress. A file that starts anew each
                # time makes none.
                gained = partial.size(partial.part(target)) - furthest
                furthest += max(gained, 0)
                failures = 1 if gained >= _PROGRESS_BYTES else failures + 1
                if failures >= self._retry_policy.attempts:
                    if isinstance(error, _HostUnreachable):
                        self._unreachable_hosts[host] = str(error)
                    raise DownloadError(f"{error}, {failures} times") from None
                self.account.check()

                # Exponential backoff, or longer where the server sent Retry-After.
                backoff = self._retry_policy.pause * 2 ** (failures - 1)
                time.sleep(min(max(error.wait, backoff), _LONGEST_PAUSE))

    def _transfer(
        self, url: str, target: Path, limits: Limits, conditions: Mapping[str, str] | None
    ) -> None:
        """Attempt the transfer once, from the start or from where the last attempt stopped.

        The file stays as it is if the server says that it has not changed.

        `conditions`: headers of a conditional request; None where the file's hash is known, which
        detects later that two versions were mixed."""
        part = partial.part(target)
        note = partial.read_note(partial.part_note(target))
        # Without a validator and a hash, two versions could be mixed: start anew.
        if conditions is not None and not note.validator:
            partial.drop_part(target)
        size = partial.size(part)

        # A part of full size is complete: the process was killed before it was renamed.
        if not size or note.total != size:
            with self._request(url, size, note, conditions) as response:
                if response.status_code == 304 and conditions and not size:
                    return
                # 416 with the part's own size says that no bytes are missing.
                complete = {headers.content_range(response)[1], note.total} <= {None, size}
                if response.status_code != 416 or not size or not complete:
                    start = self._body_offset(response, target, size, note)
                    self._receive(response, target, start, limits, f"{self._corpus} {redact(url)}")

        # Delete the old note first, so that it never describes other bytes.
        partial.complete_note(target).unlink(missing_ok=True)
        replace_file(part, target)
        if partial.part_note(target).exists():
            replace_file(partial.part_note(target), partial.complete_note(target))

    @contextmanager
    def _request(
        self, url: str, size: int, note: Note, conditions: Mapping[str, str] | None
    ) -> Iterator[requests.Response]:
        """Request the bytes from `size` on; follow at most `_MOST_REDIRECTS` redirects."""
        request = {"Accept-Encoding": "identity"}
        if not size:
            request.update(conditions or {})
        else:
            request["Range"] = f"bytes={size}-"
            if note.validator:
                request["If-Range"] = note.validator

        address = url
        nearest = Zone.LOOPBACK
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
        """Send one request with these headers, charged to the account; yield the response without
        its body read.

        `nearest` is the nearest zone that it may connect to."""
        # Behind a proxy, the transport checks no address.
        if zone_of_host(urllib.parse.urlsplit(address).hostname or "") is Zone.FORBIDDEN:
            raise DownloadError(
                "a link-local, multicast or metadata address, which is never contacted"
            )

        timeout = (self._retry_policy.connect, self._retry_policy.silence)
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
                raise self._classify(error) from None
            # http.client raises these for malformed headers.
            except (ValueError, OverflowError) as error:
                raise _TransientError(f"broke off ({type(error).__name__})") from None
            with response:
                yield response

    def _zone(self, address: str) -> Zone:
        """Zone of the last server; behind a proxy, the zone of the host in its address."""
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
            raise self._classify(error) from None
        # http.client raises these for malformed chunks, such as one of a negative size.
        except (ValueError, OverflowError) as error:
            raise _TransientError(f"broke off ({type(error).__name__})") from None

    def _classify(self, error: Exception) -> DownloadError | _TransientError:
        """Classify a failed exchange as transient or final."""
        if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
            return _TransientError(f"silent for {self._retry_policy.silence:g} s")
        if isinstance(error, requests.ConnectTimeout):
            return _HostUnreachable(f"no connection within {self._retry_policy.connect:g} s")
        if isinstance(error, requests.exceptions.SSLError):
            return DownloadError(f"no trusted connection ({_cause(error)})")
        if isinstance(error, requests.ConnectionError):
            # MaxRetryError: no connection was made; otherwise one was made, and broke.
            refused = error.args and isinstance(error.args[0], urllib3.exceptions.MaxRetryError)
            failure = _HostUnreachable if refused else _TransientError
            return failure(f"no connection ({_cause(error)})")
        if isinstance(error, urllib3.exceptions.HTTPError):
            return _TransientError(f"broke off ({_cause(error)})")
        return DownloadError(_cause(error))

    def _body_offset(self, response: requests.Response, target: Path, size: int, note: Note) -> int:
        """Offset in the file of the response's body: 0 or `size`. Raise for a response without a
        usable body."""
        status = response.status_code
        if status == 200:
            return 0
        if status == 206 and size and headers.continues(response, size, note):
            return size
        if size and status in (206, 416):
            partial.drop_part(target)
            raise _TransientError("its file changed during the download")
        if status in (408, 425, 429) or status >= 500:
            seconds = headers.number(response.headers.get("Retry-After", "")) or 0
            raise _TransientError(headers.status(response), float(seconds))
        raise DownloadError(headers.status(response))

    def _receive(
        self, response: requests.Response, target: Path, start: int, limits: Limits, label: str
    ) -> None:
        """Append the body to `.part`.

        `_TransientError` if it ends early, `DownloadError` if it is empty or too large."""
        part = partial.part(target)

        # Refuse by the announced size before a byte is written.
        total = headers.content_range(response)[1] if start else headers.content_length(response)
        if total is not None and total > limits.container:
            raise DownloadError(f"{total} bytes, over the {limits.container} that are allowed")

        if not start:
            part.unlink(missing_ok=True)
            tag = headers.validator(response, "ETag")
            modified = headers.validator(response, "Last-Modified")
            partial.write_note(partial.part_note(target), Note(tag, modified, total))

        size = start
        with part.open("ab", buffering=0) as file, progress(label, start, total) as advance:
            for chunk in self._body(response):
                with name_file_in_errors(part):
                    _write(file, chunk)
                size += len(chunk)
                advance(len(chunk))
                if size > limits.container:
                    partial.drop_part(target)
                    raise DownloadError(f"over {limits.container} bytes")
                if size > limits.plain and archives.kind(part) == "plain":
                    partial.drop_part(target)
                    raise DownloadError(f"over {limits.plain} bytes")

        if total is not None and size < total:
            raise _TransientError(f"ended after {size} of {total} bytes")
        if not size:
            partial.drop_part(target)
            raise DownloadError("an empty file")


def _write(file: FileIO, chunk: bytes) -> None:
    """Write all of the chunk: a disk that fills up first takes a part of it, and then raises."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _cause(error: BaseException) -> str:
    """Name the innermost cause; the outer ones repeat the address with its query."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(getattr(error, "strerror", None) or type(error).__name__).split())
