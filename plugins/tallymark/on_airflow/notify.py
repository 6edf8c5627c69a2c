"""Alerts by e-mail and Slack, through Airflow connections."""

import html
import logging
from typing import Any

from tallymark.settings import Settings

log = logging.getLogger(__name__)


def send(settings: Settings, lines: list[str]) -> bool:
    """Send the lines of an alert to every configured channel.

    Returns:
        False if there are channels and all of them failed.
    """
    kinds = sorted({line.partition(":")[0].lower() for line in lines})
    notifiers = _notifiers(settings, f"Tallymark: {', '.join(kinds)}", lines)
    failures = 0
    for notifier in notifiers:
        try:
            # Calling the notifier would render the text as a template, and it contains names from input files.
            notifier.notify({})
        except Exception:
            failures += 1
            log.exception("%s could not send an alert. Check its Airflow connection.", type(notifier).__name__)
    return not notifiers or failures < len(notifiers)


def _notifiers(settings: Settings, subject: str, lines: list[str]) -> list[Any]:
    found: list[Any] = []
    if settings.alert_email and _is_configured(settings.alert_smtp_conn_id):
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        found.append(
            SmtpNotifier(
                to=[address.strip() for address in settings.alert_email.split(",")],
                subject=subject,
                html_content="".join(f"<p>{html.escape(line)}</p>" for line in lines),
                smtp_conn_id=settings.alert_smtp_conn_id,
            )
        )
    if _is_configured(settings.alert_slack_conn_id):
        from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

        text = "\n".join([f"*{subject}*", *(html.escape(line, quote=False) for line in lines)])
        found.append(SlackWebhookNotifier(text=text, slack_webhook_conn_id=settings.alert_slack_conn_id, timeout=10))
    return found


def _is_configured(conn_id: str) -> bool:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return bool(BaseHook.get_connection(conn_id))
    except AirflowNotFoundException:
        return False
