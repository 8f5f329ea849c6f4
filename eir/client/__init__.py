"""For those who ask: clients of a node. Knows the wire and the identities, nothing behind them."""

from eir.client.client import Client, ClientSettings, Counts
from eir.client.tls import ClientTls
from eir.client.verdict import Verdict
from eir.core.status import Status

__all__ = ["Client", "ClientSettings", "ClientTls", "Counts", "Status", "Verdict"]
