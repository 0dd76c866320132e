"""Extract single files, or a bundle of many files, from a container or a plain file."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.download import archives, bundle
from pipeline.download.archives import Extraction
from pipeline.download.wanted import Bundle, File, PinnedItem


def extract(path: Path, items: Sequence[PinnedItem], into: Path) -> Extraction:
    """Copy each of the items that `path` contains to `into`."""
    bundles = [item for item in items if isinstance(item, Bundle)]
    if bundles:
        assert len(bundles) == len(items) == 1, "a corpus is of files, or is one bundle"
        return bundle.extract(path, bundles[0], into)
    return archives.extract(path, [item for item in items if isinstance(item, File)], into)
