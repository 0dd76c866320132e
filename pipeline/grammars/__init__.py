"""The built-in corpora: probabilistic grammars that write rows with a known best possible score.
One file per grammar.

A grammar's file exports `SPLITS`, `Config` (that of `grammar.py`, or a subclass with further keys)
and `write(raw, config)`. It fills the existing folder `raw` with the splits and, except for
unlabeled text, `limits.json`: the best score that any model can reach on each split. `digits` has
natural data, without a known limit."""
