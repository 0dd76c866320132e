"""Errors of calls to Prefect's server: it is gone, refuses, or gives answers that no Prefect server
would."""

import json

import httpx
import pydantic
from prefect.exceptions import PrefectException

NOT_PREFECT = (
    httpx.InvalidURL,  # of a redirect
    httpx.TooManyRedirects,
    json.JSONDecodeError,
    UnicodeDecodeError,
    pydantic.ValidationError,  # JSON, but of something else
)
SERVER_CALLS = (httpx.HTTPError, PrefectException, *NOT_PREFECT)
SERVER_ERRORS = (*SERVER_CALLS, OSError)
