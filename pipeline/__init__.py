"""The library: corpora, text, models, objectives, training, search, scores. `stages/`, the DAG's
nodes, call it."""
