"""Adds the Detections page to Airflow's navigation, and notes to runs.

Every task process loads this file, so it must not import the page. The first request does.
"""

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin
from tallymark.on_airflow import run_note


async def app(scope, receive, send) -> None:
    """Pass a request to the page's ASGI app. All routes require an Airflow login."""
    from tallymark.page.app import app

    await app(scope, receive, send)


class DetectionsPage(AirflowPlugin):
    """The page, its navigation entry, and the listener that writes run notes."""

    name = "tallymark"
    listeners: ClassVar[list[Any]] = [run_note]
    fastapi_apps: ClassVar[list[Any]] = [{"name": "Detections", "app": app, "url_prefix": "/tallymark"}]
    external_views: ClassVar[list[Any]] = [
        {
            "name": "Detections",
            "href": "tallymark/",
            "destination": "nav",
            "url_route": "detections",
            "nav_top_level": True,
            "icon": "tallymark/static/icon.svg",
            "icon_dark_mode": "tallymark/static/icon-dark.svg",
        }
    ]
