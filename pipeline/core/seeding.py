"""One random stream per use: seeds are derived by name, so adding a use disturbs no other."""

import hashlib


def derive(seed: int, name: str) -> int:
    """Return a 63-bit seed for the use called `name` in a run seeded with `seed`."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
