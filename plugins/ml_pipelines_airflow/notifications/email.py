"""`email` in `default_args`, by the SMTP provider's notifier and its connection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["email_callback"]

log = logging.getLogger(__name__)


def email_callback(to: Sequence[str]) -> Callable[[Any], None]:
    """A callback that mails what Airflow mails of a task that failed or is tried again.

    Subject, text and sender are those of the connection (`smtp_default`, or what `[email] email_conn_id` names).

    Args:
        to: addresses.
    """
    addresses = list(to)

    def tell(context: Any) -> None:
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        try:
            # A fresh one: it renders its fields in place, so that one object would say the first task's text for all.
            # Called directly, as there is nothing to render yet, and what goes wrong is logged once and here.
            SmtpNotifier(to=addresses).notify(context)
        except Exception as exc:
            # A mail is not worth a task.
            log.warning(
                "no mail to %s: %s: %s; see Airflow's connection smtp_default, of type SMTP",
                ", ".join(addresses),
                type(exc).__name__,
                exc,
            )

    return tell
