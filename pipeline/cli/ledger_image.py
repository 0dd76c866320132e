"""Pictures of documents that are figures of the default DAG's report."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from pipeline.core.digest import file_digest
from pipeline.core.errors import refuse
from pipeline.dag import lockfile
from pipeline.dag.paths import RunPaths

_UPDATE = "run `make repro`, then `seqline claims --update`"


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """The picture `image`, which the document `file` shows, is the figure `figure` of the report.

    `image` is a path in the project, and `figure` one in the report's folder of figures. `md5` is
    the picture's. `folder` is the md5 of the folder that it was copied from, as in `dvc.lock`: the
    figures themselves are not in git."""

    name: Literal["image"]
    file: str
    image: str
    figure: str
    md5: str
    folder: str


class Figures:
    """The report's figures, on disk and as `dvc.lock` has them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = RunPaths(root).shared("report", "figures")

    def problems(self, claim: Image, document: str) -> Iterator[str]:
        """Yield a sentence for each reason why the picture is not the report's figure."""
        if f"({_address(claim)})" not in document:
            yield f"{claim.file} does not show {claim.image}"
        picture = self._root / claim.image
        if not picture.is_file() or md5(picture) != claim.md5:
            yield f"{claim.image} is not the picture of claims.yaml; {_UPDATE}"

        figure = self._folder / claim.figure
        if figure.is_file() and md5(figure) != claim.md5:
            yield f"{claim.image} is not the present {figure.relative_to(self._root)}; {_UPDATE}"
        elif self.locked() != claim.folder:
            yield f"{claim.image} is from other figures than those of dvc.lock; {_UPDATE}"

    def content(self, claim: Image) -> bytes | None:
        """The figure's bytes; None if the report is not on this machine."""
        figure = self._folder / claim.figure
        return figure.read_bytes() if figure.is_file() else None

    def locked(self) -> str:
        """The md5 of the folder of figures in `dvc.lock`; UserError if it has none."""
        lock = self._root / "dvc.lock"
        try:
            stages = lockfile.split_stages(lock.read_text(encoding="utf-8")) or {}
            block = yaml.safe_load(stages.get("report", "{}")) or {}
        except (OSError, ValueError, yaml.YAMLError):
            block = {}
        name = self._folder.relative_to(self._root).as_posix()
        for output in block.get("report", {}).get("outs", []):
            if output["path"] == name:
                return str(output["md5"])
        raise refuse("dvc.lock", f"no md5 of {name}", "the stage report", "Run `make repro`.")


def md5(path: Path) -> str:
    """The md5 of a file, with a prefix: no YAML takes it for a number such as 60e12."""
    return "md5:" + file_digest(path, "md5")


def _address(claim: Image) -> str:
    """The picture's path from the document."""
    path = Path(claim.image).relative_to(Path(claim.file).parent)
    return path.as_posix()
