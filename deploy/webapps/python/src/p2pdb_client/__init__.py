"""Client of the p2pdb gateway."""

from .aio import AsyncClient
from .client import Client
from .http import GatewayNotRunning, Problem, SpaceChanged
from .model import Entry, Job, Page, Progress

__all__ = [
    "AsyncClient",
    "Client",
    "Entry",
    "GatewayNotRunning",
    "Job",
    "Page",
    "Problem",
    "Progress",
    "SpaceChanged",
]
