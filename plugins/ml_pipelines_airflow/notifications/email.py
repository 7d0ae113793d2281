"""Mails for `email` in `default_args`, sent by the SMTP provider's notifier and its connection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["email_callback"]

log = logging.getLogger(__name__)


def email_callback(to: Sequence[str]) -> Callable[[Any], None]:
    """Return a callback that sends Airflow's mail about a failed or retried task.

    The connection `smtp_default`, or the one in `[email] email_conn_id`, defines subject, text and sender.

    Args:
        to: addresses.
    """
    addresses = list(to)

    def send(context: Any) -> None:
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        try:
            # A new object per mail: it renders its fields in place, so a shared one would repeat the first text.
            # `notify` skips the rendering of Airflow's notifier, which would log the error a second time.
            SmtpNotifier(to=addresses).notify(context)
        except Exception as exc:
            # No error of a mail may fail a task.
            log.warning(
                "the mail to %s was not sent: %s: %s; check Airflow's connection smtp_default, of type SMTP",
                ", ".join(addresses),
                type(exc).__name__,
                exc,
            )

    return send
