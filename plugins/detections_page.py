"""Adds the page Detections to Airflow's navigation, and notes to the runs.

Every task process loads this file, so that it imports nothing of the page: the app comes with its first request.
"""

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin
from tallymark.on_airflow import run_note


async def app(scope, receive, send) -> None:
    """The page's ASGI app; every route of it asks for Airflow's login."""
    from tallymark.page.app import app

    await app(scope, receive, send)


class DetectionsPage(AirflowPlugin):
    """The page, its entry in the navigation, and what listens to runs."""

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
