"""The bucket as Airflow's tasks reach it: through a connection, with time-outs and retries."""

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
    """An S3Hook that does not wait for ever; ``config_kwargs`` in the connection's extra win over its own."""

    own_config = S3_CONFIG

    @cached_property
    def conn(self) -> Any:
        """A boto3 client."""
        if Settings().speedups:
            return shared_client(type(self).__name__, self.conn_config, lambda: super(BucketHook, self).conn)
        return super().conn

    @property
    def config(self) -> Config:
        return self.own_config.merge(super().config)


class ListingHook(BucketHook):
    """What the sensor lists with; it asks again every second, so one that waits long for an answer learns nothing."""

    own_config = LISTING_CONFIG
    places: "Sequence[Place]" = ()
    requester_pays = False

    def iter_file_metadata(self, prefix: str, bucket_name: str | None = None, **kwargs: Any) -> Iterator[dict]:
        """Entries of listings as S3Hook's, but only of ``places`` (tallymark.intake.listing), below the prefix."""
        for place in self.places:
            yield from entries(
                self.get_conn(), bucket_name or "", place.prefix, place.after, place.is_passed, self.requester_pays
            )


class ChunkSensor(S3KeySensor):
    """An S3KeySensor that fails, and says what to do, when S3 does not answer or refuses.

    It ends as soon as ``check_fn`` finds work among the keys, or without any, or when S3 answered for ``timeout``
    seconds and there was none. A poke lists where new chunks are to be expected, and everything now and then: see
    tallymark.intake.listing.
    """

    aws_hook_class = ListingHook

    def execute(self, context: Any) -> bool:
        """Whether there is work."""
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
            # S3KeySensor asks check_fn only when there are keys; what is unfinished needs none.
            found = super().poke(context) or self.check_fn([], **context)
        if not found and len(hook.places) == 1:
            index.note_full_listing()
        return found


def open_bucket(settings: Settings) -> S3Store:
    """The bucket of the settings, through their Airflow connection."""
    return S3Store(
        BucketHook(settings.aws_conn_id).get_conn(),
        settings.bucket,
        settings.aws_conn_id,
        settings.server_side_encryption,
        settings.kms_key_id,
        settings.requester_pays,
    )


def has_connection(settings: Settings) -> bool:
    """Whether the Airflow connection of the settings exists; without it, boto3 looks for credentials itself."""
    return bool(BucketHook(settings.aws_conn_id).conn_config)
