"""`reconcile status`: what every target holds of every version."""

from __future__ import annotations

import os

from reconciler.cli import output as out
from reconciler.errors import ExitCode
from reconciler.loop.run import Run
from reconciler.loop.settings import Settings
from reconciler.loop.status import Status, look
from reconciler.render.status import status_document, status_text


def show_status(settings: Settings, *, deals: bool, as_json: bool, exit_code: bool) -> int:
    """Observe, and show every version on every target, in order or not."""
    settings.layout.make_state()
    with out.progress() as progress, Run(settings, os.environ, progress) as run:
        status: Status = look(run)
    if as_json:
        out.result_json(status_document(status))
    else:
        out.result(status_text(status, deals=deals, paint=out.paint()))
    if status.unknown:
        return ExitCode.PARTIAL
    return ExitCode.PENDING if exit_code and not status.in_sync else ExitCode.OK
