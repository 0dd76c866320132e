"""The built-in corpora: probabilistic grammars that write rows whose best reachable score is known.
One file per grammar.

A grammar's file exports `Config` (a dataclass: `seed`, `sizes`) and `write(raw, config)`, which
fills the existing folder `raw`: its splits, and `limits.json`, the best score that any model can
reach on each of them."""
