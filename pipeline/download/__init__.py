"""Bringing a corpus in: from a built-in grammar, the user's own files, or addresses whose content
is known by hash."""
