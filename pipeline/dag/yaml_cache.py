"""Parsed YAML files of DVC, kept by their text, so that a text is parsed once for all forks.

DVC parses `params.yaml` once for each group of a stage's parameters and again when it runs, saves
and caches the stage, and all of `dvc.lock` for each stage: half of a second of a core. The parts of
`dvc.lock` are kept by stage (lockfile.py). A text that was not seen before is parsed by DVC's own
function, which also reports its errors."""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.dag import lockfile

Parser = Callable[..., Any]

_MAX_TEXTS = 16


class YamlCache:
    """A `parse_yaml` as DVC's `original`, with a memory."""

    def __init__(self, original: Parser) -> None:
        self._original = original
        # Pickled: whoever gets a value may change it.
        self._texts: OrderedDict[str, bytes] = OrderedDict()
        self._stages: dict[str, tuple[str, bytes]] = {}  # lines and content, by stage

    def parse(self, text: str, path: Any, typ: str = "safe") -> Any:
        """Return the content of `text`; `path` is for messages. Only `typ` "safe" is kept."""
        if typ != "safe":
            return self._original(text, path, typ)
        if (stages := lockfile.split_stages(text)) is not None:
            content = self._parse_lock(stages, path)
            if content is not None:
                return content

        if text not in self._texts:
            self._texts[text] = pickle.dumps(self._original(text, path))
            if len(self._texts) > _MAX_TEXTS:
                self._texts.popitem(last=False)
        self._texts.move_to_end(text)
        return pickle.loads(self._texts[text])

    def read_ahead(self, lock: Path) -> None:
        """Parse what is new in `dvc.lock`, for the forks that will be made."""
        try:
            text = lock.read_text(encoding="utf-8")
        except (OSError, ValueError):
            return
        if (stages := lockfile.split_stages(text)) is not None:
            self._parse_lock(stages, lock)

    def _parse_lock(self, stages: dict[str, str], path: Any) -> dict[str, Any] | None:
        """Return the content of a `dvc.lock` by its stages' lines; None if it has to be parsed as a
        whole."""
        from dvc.utils.serialize import ParseError

        content: dict[str, Any] = {}
        for name, lines in stages.items():
            cached_lines, cached = self._stages.get(name, ("", b""))
            if cached_lines != lines:
                try:
                    part = self._original(lockfile.join_stages({name: lines}), path)["stages"]
                except ParseError:
                    return None
                # Anchors count through the whole file.
                if list(part) != [name] or lockfile.has_anchor(lines):
                    return None
                cached = pickle.dumps(part[name])
                self._stages[name] = (lines, cached)
            content[name] = pickle.loads(cached)
        return {"schema": "2.0", "stages": content} if content else None
