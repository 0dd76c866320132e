"""Commands in the code blocks of the documents."""

import re
from collections.abc import Iterator

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SHELL = {"", "sh", "bash", "console"}  # languages of a block


def blocks(text: str) -> Iterator[list[str]]:
    """The lines of each shell block, without comments; continued lines are joined."""
    for language, block in _BLOCK.findall(text):
        if language in _SHELL:
            lines = block.replace("\\\n", " ").splitlines()
            yield [re.sub(r"(\s|^)#\s.*$", "", line.removeprefix("$ ")).strip() for line in lines]
