"""Bundles over HTTP: predictions, explanations and a page, within limits."""

from headstart.serve.app import create_app
from headstart.serve.limits import Limits
from headstart.serve.server import run_server

__all__ = ["Limits", "create_app", "run_server"]
