"""Fetch a corpus: from a built-in grammar, the user's own files, or addresses of pinned files."""
