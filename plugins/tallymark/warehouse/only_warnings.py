"""dbt's events, without those that nobody hears."""

from dbt_common.events.base_types import BaseEvent, EventLevel
from dbt_common.events.event_manager import EventManager


class OnlyWarnings(EventManager):
    """Drops events below warnings, before dbt makes messages of them. For ``ctx_set_event_manager``."""

    def fire_event(
        self, e: BaseEvent, level: EventLevel | None = None, node: object = None, force_warn_or_error_handling=False
    ) -> None:
        if force_warn_or_error_handling or (level or e.level_tag()) in (EventLevel.WARN, EventLevel.ERROR):
            super().fire_event(e, level, node, force_warn_or_error_handling)
