"""What a node begins with: what served last, or the first that may.

    the depot as it served last ─▶ serves
    another ─▶ the last one is built again and serves; the other is weighed once doors are open
    the first, or the last one is not kept ─▶ weighed by least sizes alone

Serves nothing itself, and never weighs what is behind: the keeper does, by the way of every change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from eir.errors import Refused
from eir.ops.accepted import rebuilt, unchanged, write_down
from eir.ops.reload_guard import weigh
from eir.ops.settings.config import Config
from eir.serve.holder import Serving
from eir.store.depot import Depot, Opened

_log = logging.getLogger(__name__)

Taken = dict[str, Opened]


@dataclass(frozen=True, slots=True)
class Start:
    """The files taken, what serves of them (None: nothing may), and the configuration that it goes
    by. ``behind``: the one to be taken up next, where that is another; else None.
    """

    taken: Taken
    serving: Serving | None
    config: Config
    behind: Config | None = None


def built_at_start(
    depot: Depot,
    config: Config,
    *,
    build: Callable[[Config], tuple[Taken, Serving | None]],
    serving_of: Callable[[Taken, Config], Serving],
    now: int,
) -> Start:
    """What served last; what depot and configuration come to, if that is the same or the first.

    ``build``: what depot and configuration come to. ``now``: Unix seconds. Raises Refused and
    Corrupt as ``build``.
    """
    last = depot.served.last()
    if last is not None and not unchanged(depot, config.policy, config.grace.grace_lag, last):
        before = rebuilt(depot, last)
        if before is not None:
            grace = replace(config.grace, grace_lag=last.grace_lag)
            then = replace(config, policy=before.policy, grace=grace)
            return Start(before.taken, serving_of(before.taken, then), then, behind=config)
        last = None
    taken, serving = build(config)
    if serving is None:
        return Start(taken, None, config)
    try:
        if last is None:
            weigh(depot, config.guard, None, serving, now)
    except Refused as held:
        _log.error("nothing serves: %s", held)
        for opened in taken.values():
            opened.close_unless_in(None)
        return Start({}, None, config)
    try:
        write_down(depot, serving, now)
    except OSError as fault:
        _log.error("what serves can't be written down: %s", fault)
    return Start(taken, serving, config)
