"""The Detections page without a browser."""

from pathlib import Path

from tallymark.page.backlog import Backlog
from tallymark.page.backtests import Backtests
from tallymark.page.reader import Reader
from tallymark.publish import snapshot
from tallymark.settings import Settings
from tallymark.store import Store
from tallymark.store.folder import FolderStore
from tallymark.warehouse.connection import connect

NO_RUNS = {"is_paused": False, "running": None, "ended": None}


def publish(settings: Settings, store: Store) -> None:
    """Publish a snapshot of the warehouse."""
    with connect(settings) as warehouse:
        assert snapshot.publish(warehouse, store, settings.output_prefix, settings.time_zone)


class Site:
    """The page's app on the snapshot in a folder, as a logged-in user sees it."""

    def __init__(self, page, settings: Settings, root: Path):
        from fastapi.testclient import TestClient

        self.settings, self.store = settings, FolderStore(root)
        self.reader = Reader(settings.output_prefix, lambda: self.store)
        backlog = Backlog(settings, self.reader)
        page.app.dependency_overrides = {
            page.reader: lambda: self.reader,
            page.backlog: lambda: backlog,
            page.backtests: lambda: Backtests(settings.output_prefix, self.reader),
            **{login.dependency: lambda: None for login in page.app.router.dependencies},
        }
        self.client = TestClient(page.app)

    def get(self, path: str):
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer

    def json(self, path: str) -> dict:
        return self.get(path).json()
