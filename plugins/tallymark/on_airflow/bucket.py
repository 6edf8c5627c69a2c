"""Access to the bucket from Airflow tasks, through an Airflow connection, with timeouts and retries."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.sdk.exceptions import AirflowSensorTimeout
from botocore.config import Config

from tallymark.settings import Settings
from tallymark.speedups.s3 import shared_client
from tallymark.store.s3 import LISTING_CONFIG, S3_CONFIG, S3Store, entries, explained

if TYPE_CHECKING:
    from tallymark.intake.listing import Place


class BucketHook(S3Hook):
    """An S3Hook with timeouts and retries. ``config_kwargs`` in the connection's extra take precedence."""

    own_config = S3_CONFIG

    @cached_property
    def conn(self) -> Any:
        """The boto3 client, shared with other tasks if possible."""
        if Settings().speedups:
            return shared_client(type(self).__name__, self.conn_config, lambda: super(BucketHook, self).conn)
        return super().conn

    @property
    def config(self) -> Config:
        return self.own_config.merge(super().config)


class ListingHook(BucketHook):
    """The sensor's hook. Its timeouts are short, because the sensor lists the bucket again after a second anyway."""

    own_config = LISTING_CONFIG
    places: "Sequence[Place]" = ()
    requester_pays = False

    def iter_file_metadata(self, prefix: str, bucket_name: str | None = None, **kwargs: Any) -> Iterator[dict]:
        """Yield listing entries like S3Hook, but only from ``places`` (tallymark.intake.listing)."""
        for place in self.places:
            yield from entries(
                self.get_conn(), bucket_name or "", place.prefix, place.after, place.is_passed, self.requester_pays
            )


class ChunkSensor(S3KeySensor):
    """An S3KeySensor that succeeds even if no chunk lands, and explains errors of S3.

    It ends when ``check_fn`` finds work, with or without keys, or after ``timeout`` seconds. Most pokes list only the
    prefixes where new chunks are expected, and some list everything: see tallymark.intake.listing.

    Raises:
        BucketError: when S3 does not answer or denies access. The message says what to do.
    """

    aws_hook_class = ListingHook

    def execute(self, context: Any) -> bool:
        """Wait for work. Returns whether there is any."""
        try:
            super().execute(context)
        except AirflowSensorTimeout:
            return False
        return True

    def poke(self, context: Any) -> bool:
        from tallymark.intake import listing
        from tallymark.warehouse.ledger_index import LedgerIndex

        settings, hook = Settings(), self.hook
        index = LedgerIndex(settings.warehouse, settings.limits)
        hook.places = listing.places(index, settings.transactions_prefix, settings.full_listing_seconds)
        hook.requester_pays = settings.requester_pays
        with explained(f"list {self.bucket_key}", hook.get_conn(), settings.bucket, self.aws_conn_id):
            # S3KeySensor calls check_fn only if it finds keys, but unfinished work does not need any.
            found = super().poke(context) or self.check_fn([], **context)
        if not found and len(hook.places) == 1:
            index.note_full_listing()
        return found


def open_bucket(settings: Settings) -> S3Store:
    """Return the bucket in the settings, through the Airflow connection in the settings."""
    return S3Store(
        BucketHook(settings.aws_conn_id).get_conn(),
        settings.bucket,
        settings.aws_conn_id,
        settings.server_side_encryption,
        settings.kms_key_id,
        settings.requester_pays,
    )


def has_connection(settings: Settings) -> bool:
    """Return whether the Airflow connection in the settings exists. Without it, boto3 looks for credentials itself."""
    return bool(BucketHook(settings.aws_conn_id).conn_config)
