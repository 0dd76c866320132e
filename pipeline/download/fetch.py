"""HTTP downloads that survive being killed: a work folder keeps what came, and the next call asks for the rest.

For each address, under the sha256 of its URL: `.part` (bytes so far), `.json` (what the server said of them), and, once
whole, the file without an ending and `.seen`, the same of that one. Ranges and validators: RFC 9110, sections 13.1
(If-None-Match, If-Modified-Since, If-Range), 14 (Range), 15.4.5 (304) and 15.5.17 (416).
"""

import json
import re
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from io import FileIO
from pathlib import Path

import requests
import urllib3

from pipeline.download import archives
from pipeline.download.progress import progress
from pipeline.errors import naming, shown
from pipeline.landing import replace_file

_CHUNK = 1 << 16
_WORTHWHILE = 1 << 20  # bytes gained by an attempt that make the next count as the first again
_LONGEST_PAUSE = 60.0
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class Failed(Exception):
    """An address that gives no file, with the reason for a message."""


class _Passing(Exception):
    """A failure that may pass: worth another attempt after `wait` seconds at least."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Unreachable(_Passing):
    """No connection to the host at all, so that its other addresses need not be tried."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait for a connection and for silence to end; attempts in all; seconds before the second, then doubled."""

    connect: float
    silence: float
    attempts: int
    pause: float


PATIENT = Patience(connect=10.0, silence=30.0, attempts=4, pause=1.0)


@dataclass(frozen=True, slots=True)
class Limits:
    """The most bytes that a plain file, and that a container, may have."""

    plain: int
    container: int


@dataclass(frozen=True, slots=True)
class _Note:
    """What the server said of the bytes: an ETag and a date that name this version, and its size in all."""

    tag: str | None
    modified: str | None
    total: int | None

    @property
    def validator(self) -> str | None:
        """What to say in If-Range: a strong ETag (a weak one is not allowed there), else the date."""
        return self.tag if self.tag and self.tag.startswith('"') else self.modified

    def conditions(self) -> dict[str, str]:
        """Headers that ask for the file only if it is another version; none if the server named none."""
        named = {"If-None-Match": self.tag, "If-Modified-Since": self.modified}
        return {header: value for header, value in named.items() if value}


class Fetcher:
    """Fetches addresses into the folder `work` for one corpus; a host that cannot be reached is not tried again."""

    def __init__(self, corpus: str, work: Path, patience: Patience = PATIENT) -> None:
        self._corpus, self._work, self._patience = corpus, work, patience
        self._session = requests.Session()
        self._session.max_redirects = 5
        self._dead: dict[str, str] = {}

    def stem(self, url: str) -> Path:
        """Where the whole file of this address lies once it came."""
        return self._work / sha256(url.encode()).hexdigest()

    def discard(self, url: str) -> None:
        """Forget what came from the address."""
        _drop(self.stem(url))

    def fetch(self, url: str, limits: Limits) -> tuple[Path, bool]:
        """The file at `url`, and whether all of it came in this call; `Failed` if it cannot be had."""
        whole = self.stem(url)
        if whole.exists():
            return whole, False
        fresh = not _size(_part(whole))
        self._insist(url, whole, limits, None)
        return whole, fresh

    def renew(self, url: str, limits: Limits) -> Path:
        """The file as the server has it now, sent only if it changed; what came before stays until the new one is whole.

        `Failed` if the server does not tell: then `stem(url)` may still hold what came before.
        """
        whole = self.stem(url)
        self._insist(url, whole, limits, _read_note(_seen(whole)).conditions() if whole.exists() else {})
        return whole

    def _insist(self, url: str, whole: Path, limits: Limits, conditions: Mapping[str, str] | None) -> None:
        """Transfer with patience; `Failed` when it ends."""
        host, failures = urllib.parse.urlsplit(url).netloc, 0
        if host in self._dead:
            raise Failed(self._dead[host])
        while True:
            before = _size(_part(whole))
            try:
                self._transfer(url, whole, limits, conditions)
                return
            except _Passing as error:
                failures = 1 if _size(_part(whole)) - before >= _WORTHWHILE else failures + 1
                if failures >= self._patience.attempts:
                    if isinstance(error, _Unreachable):
                        self._dead[host] = str(error)
                    raise Failed(f"{error}, {failures} times") from None
                time.sleep(min(max(error.wait, self._patience.pause * 2 ** (failures - 1)), _LONGEST_PAUSE))

    def _transfer(self, url: str, whole: Path, limits: Limits, conditions: Mapping[str, str] | None) -> None:
        """One attempt: from the start, or from where the last one stopped; nothing if the server says that nothing changed.

        Without conditions the bytes' hash is known, and tells later what two versions would make together.
        """
        part, note = _part(whole), _read_note(_note(whole))
        if conditions is not None and not note.validator:
            _drop_part(whole)
        have = _size(part)
        if not have or note.total != have:  # else it was killed between the last byte and the renaming
            with self._ask(url, have, note, conditions) as response:
                if response.status_code == 304 and conditions and not have:
                    return
                if response.status_code == 416 and have and _content_range(response)[1] in (None, have):
                    pass  # nothing after the bytes that are here
                else:
                    start = self._start(response, whole, have, note)
                    self._receive(response, whole, start, limits, f"{self._corpus} {shown(url)}")
        _seen(whole).unlink(missing_ok=True)  # before the bytes that it is not of are there
        replace_file(part, whole)
        if _note(whole).exists():
            replace_file(_note(whole), _seen(whole))

    @contextmanager
    def _ask(self, url: str, have: int, note: _Note, conditions: Mapping[str, str] | None) -> Iterator[requests.Response]:
        headers = {"Accept-Encoding": "identity", **({} if have else conditions or {})}
        if have:
            headers["Range"] = f"bytes={have}-"
            if note.validator:
                headers["If-Range"] = note.validator
        timeout = (self._patience.connect, self._patience.silence)
        try:
            with self._session.get(url, headers=headers, stream=True, timeout=timeout) as response:
                yield response
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise self._judged(error) from None

    def _judged(self, error: Exception) -> Failed | _Passing:
        """What a failed exchange means: some failures may pass, others will not."""
        if isinstance(error, requests.TooManyRedirects):
            return Failed(f"over {self._session.max_redirects} redirects")
        if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
            return _Passing(f"silent for {self._patience.silence:g} s")
        if isinstance(error, requests.ConnectTimeout):
            return _Unreachable(f"no connection within {self._patience.connect:g} s")
        if isinstance(error, requests.exceptions.SSLError):
            return Failed(f"no trusted connection ({_cause(error)})")
        if isinstance(error, requests.ConnectionError):
            refused = error.args and isinstance(error.args[0], urllib3.exceptions.MaxRetryError)
            return (_Unreachable if refused else _Passing)(f"no connection ({_cause(error)})")
        if isinstance(error, urllib3.exceptions.HTTPError):
            return _Passing(f"broke off ({_cause(error)})")
        return Failed(_cause(error))

    def _start(self, response: requests.Response, whole: Path, have: int, note: _Note) -> int:
        """From which byte the answer's body goes on; the answers that bring no body raise."""
        status = response.status_code
        if status == 200:
            return 0
        if status == 206 and have and _continues(response, have, note):
            return have
        if have and status in (206, 416):
            _drop_part(whole)
            raise _Passing("its file changed during the download")
        if status in (408, 425, 429) or status >= 500:
            after = response.headers.get("Retry-After", "")
            raise _Passing(f"{status} {response.reason}", float(after) if after.isdecimal() else 0.0)
        raise Failed(f"{status} {response.reason}")

    def _receive(self, response: requests.Response, whole: Path, start: int, limits: Limits, what: str) -> None:
        """Append the body to `.part`; `_Passing` if it ends early, `Failed` if it is larger than allowed."""
        part = _part(whole)
        total = _content_range(response)[1] if start else _content_length(response)
        if total is not None and total > limits.container:
            raise Failed(f"{total} bytes, over the {limits.container} that are allowed")
        if not start:
            part.unlink(missing_ok=True)
            _write_note(_note(whole), _Note(response.headers.get("ETag"), response.headers.get("Last-Modified"), total))
        have = start
        with part.open("ab", buffering=0) as file, progress(what, start, total) as advance:
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                with naming(part):
                    _write(file, chunk)
                have += len(chunk)
                advance(len(chunk))
                if have > limits.container or (have > limits.plain and archives.kind(part) == "plain"):
                    _drop_part(whole)
                    raise Failed(f"over {limits.container if have > limits.container else limits.plain} bytes")
        if total is not None and have < total:
            raise _Passing(f"ended after {have} of {total} bytes")
        if not have:
            _drop_part(whole)
            raise Failed("an empty file")


def _write(file: FileIO, chunk: bytes) -> None:
    """Write all of the chunk: a disk that is filling up takes a part of it and says so, and refuses the next."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _continues(response: requests.Response, have: int, note: _Note) -> bool:
    """Whether a 206 goes on exactly where the bytes here stop, in the same version of the file."""
    start, total = _content_range(response)
    tag = response.headers.get("ETag")
    same = not (tag and note.validator and '"' in note.validator) or tag == note.validator
    return start == have and same and (None in (total, note.total) or total == note.total)


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and total size out of a Content-Range header, each None if it does not say."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if not found:
        return None, None
    return int(found[1]) if found[1] else None, int(found[2]) if found[2] != "*" else None


def _content_length(response: requests.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _cause(error: BaseException) -> str:
    """The innermost cause in a few words; the outer ones repeat the address with its query."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(getattr(error, "strerror", None) or type(error).__name__).split())


def _part(whole: Path) -> Path:
    return whole.with_suffix(".part")


def _note(whole: Path) -> Path:
    return whole.with_suffix(".json")


def _seen(whole: Path) -> Path:
    return whole.with_suffix(".seen")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _drop(whole: Path) -> None:
    _drop_part(whole)
    for path in (whole, _seen(whole)):
        path.unlink(missing_ok=True)


def _drop_part(whole: Path) -> None:
    for path in (_part(whole), _note(whole)):
        path.unlink(missing_ok=True)


def _read_note(path: Path) -> _Note:
    try:
        said = json.loads(path.read_text())
        return _Note(said["tag"], said["modified"], said["total"])
    except (OSError, ValueError, KeyError, TypeError):
        return _Note(None, None, None)


def _write_note(path: Path, note: _Note) -> None:
    beside = path.with_suffix(".json.partial")
    with naming(path):
        beside.write_text(json.dumps(asdict(note)))
    replace_file(beside, path)
