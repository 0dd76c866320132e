"""Errors of calls to Prefect's server: no answer, a refusal, or an answer of another program."""

import json

import httpx
import pydantic
from prefect.exceptions import PrefectException

# The program at the address answers, but not as a Prefect server does.
NOT_PREFECT = (
    httpx.InvalidURL,  # in a redirect
    httpx.TooManyRedirects,
    json.JSONDecodeError,
    UnicodeDecodeError,
    pydantic.ValidationError,  # JSON of other content
)
SERVER_CALLS = (httpx.HTTPError, PrefectException, *NOT_PREFECT)
SERVER_ERRORS = (*SERVER_CALLS, OSError)
