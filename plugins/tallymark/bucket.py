"""The bucket as Airflow's tasks reach it: through a connection, with time-outs and retries."""

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from botocore.config import Config

from tallymark.settings import Settings
from tallymark.store import S3_CONFIG, S3Store, explained


class BucketHook(S3Hook):
    """An S3Hook that does not wait for ever; ``config_kwargs`` in the connection's extra win over S3_CONFIG."""

    @property
    def config(self) -> Config:
        return S3_CONFIG.merge(super().config)


class ChunkSensor(S3KeySensor):
    """An S3KeySensor that fails, and says what to do, when S3 does not answer or refuses.

    True as soon as ``check_fn`` finds work among the keys. It skips the run only when S3 answered and there was none.
    """

    aws_hook_class = BucketHook

    def poke(self, context) -> bool:
        client = self.hook.get_conn()
        with explained(f"list {self.bucket_key}", client, self.bucket_name, self.aws_conn_id):
            return super().poke(context)


def open_bucket(settings: Settings) -> S3Store:
    """The bucket of the settings, through their Airflow connection."""
    return S3Store(BucketHook(settings.aws_conn_id).get_conn(), settings.bucket, settings.aws_conn_id)
