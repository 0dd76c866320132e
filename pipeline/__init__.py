"""The library: corpora, text, models, objectives, training, search, scores. `stages/` holds the DAG's nodes, which call it."""
