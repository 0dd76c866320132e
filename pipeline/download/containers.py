"""Wanted files in a container or a plain file: single files, or a bundle of many."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.download import archives, bundle
from pipeline.download.archives import Extraction
from pipeline.download.wanted import Bundle, File, PinnedItem


def extract(path: Path, wanted: Sequence[PinnedItem], into: Path) -> Extraction:
    """Copy everything wanted that `path` holds to `into`."""
    if bundles := [one for one in wanted if isinstance(one, Bundle)]:
        assert len(bundles) == len(wanted) == 1, "a corpus is of files, or is one bundle"
        return bundle.extract(path, bundles[0], into)
    return archives.extract(path, [one for one in wanted if isinstance(one, File)], into)
