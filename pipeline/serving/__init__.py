"""HTTP: MLflow's pages on the project's own store, and a registered version that answers requests.

`mlflow_ui.py` and `model_server.py` start a process (`server_process.py`). That of a version runs
`http_server.py`, with the limits of `http_protocol.py` and the parsers of `request_body.py`."""
