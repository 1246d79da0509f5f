"""The opening of a bucket with obstore: its address, and credentials only from the named variables.

By itself obstore takes credentials, an endpoint and more from the environment (`AWS_*`, `GOOGLE_*`,
`AZURE_*`) and from the metadata service of a cloud machine. Here everything is passed, so that no other
identity and no other address is ever used; without a credential the requests are anonymous.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from reconciler.errors import UsageError
from reconciler.net.auth import from_env
from reconciler.sources.interface import SourceDefinition
from reconciler.version import __version__

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_RETRIES = 3
_PATIENCE = timedelta(seconds=60)  # for all retries of one request
_CONNECT = "20s"
_REQUEST = "300s"  # with its body, which has at most object_store.WINDOW bytes
_S3_REGION = "us-east-1"  #: what services other than Amazon accept


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """`scheme://bucket/prefix`; the prefix has no slash at its ends, "" for the whole bucket."""

    scheme: str
    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> BucketAddress:
        """Return the parts of `url`, which the reader of sources.yaml has checked."""
        parts = urlsplit(url)
        return cls(parts.scheme, parts.netloc, parts.path.strip("/"))

    def key(self, location: str) -> str:
        """Return the key of `location` below the prefix."""
        return "/".join(part for part in (self.prefix, location.strip("/")) if part)


@dataclass(frozen=True, slots=True)
class OpenBucket:
    """An open bucket, and the description of its credential for errors, without the secret.

    `store` repeats requests that may pass, `once` does not.
    """

    store: ObjectStore
    once: ObjectStore
    credential: str


def open_bucket(definition: SourceDefinition, environ: Mapping[str, str]) -> OpenBucket:
    """Open the bucket of `definition`, without a connection.

    Raises UsageError for a variable that is not set, a credential in a wrong form, and a missing extra.
    """
    try:
        from obstore import store as stores
    except ImportError:
        raise UsageError(
            f"the source {definition.name!r} needs the extra `cloud`",
            hint="pip install 'model-reconciler[cloud]'",
        ) from None
    address = BucketAddress.parse(definition.url)
    common: dict[str, Any] = {
        "client_options": {
            "allow_http": definition.endpoint.startswith("http://"),
            "connect_timeout": _CONNECT,
            "timeout": _REQUEST,
            "user_agent": f"reconciler/{__version__}",
        },
    }
    names = [name for name in (definition.key_id_env, definition.secret_env) if name]
    credential = " and ".join(names) or "no credential: name the variables that have one in sources.yaml"
    open_store = {"s3": _open_s3, "gs": _open_gcs}.get(address.scheme, _open_azure)
    try:
        store, once = (
            open_store(
                stores,
                definition,
                address.bucket,
                environ,
                {**common, "retry_config": {"max_retries": retries, "retry_timeout": _PATIENCE}},
            )
            for retries in (_RETRIES, 0)
        )
    except Exception as error:
        if not type(error).__module__.startswith("obstore"):
            raise
        raise UsageError(  # its text may quote the credential
            f"the source {definition.name!r} cannot be opened",
            hint=f"check the form of the secret in {definition.secret_env}"
            if definition.secret_env
            else "check its entry in releases/sources.yaml",
        ) from None
    return OpenBucket(store, once, credential)


def _open_s3(
    stores: Any, definition: SourceDefinition, bucket: str, environ: Mapping[str, str], common: dict[str, Any]
) -> ObjectStore:
    region = definition.region or _S3_REGION
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    options = {
        "endpoint": definition.endpoint.rstrip("/") or f"https://s3.{region}.{domain}",
        "region": region,
        "virtual_hosted_style_request": False,
    }
    if not definition.key_id_env:
        opened: ObjectStore = stores.S3Store(bucket, skip_signature=True, **options, **common)
        return opened
    key_id = from_env(definition.key_id_env, environ)
    secret = from_env(definition.secret_env, environ)
    token = from_env(definition.session_token_env, environ) if definition.session_token_env else None

    def credentials() -> dict[str, object]:
        return {
            "access_key_id": key_id.reveal(),
            "secret_access_key": secret.reveal(),
            "token": token.reveal() if token is not None else None,
            "expires_at": None,
        }

    signed: ObjectStore = stores.S3Store(
        bucket, skip_signature=False, credential_provider=credentials, **options, **common
    )
    return signed


def _open_gcs(
    stores: Any, definition: SourceDefinition, bucket: str, environ: Mapping[str, str], common: dict[str, Any]
) -> ObjectStore:
    options: dict[str, Any] = {"base_url": definition.endpoint.rstrip("/")} if definition.endpoint else {}
    if definition.secret_env:
        options["service_account_key"] = from_env(definition.secret_env, environ).reveal()
        options["skip_signature"] = False
    else:
        options["skip_signature"] = True
    opened: ObjectStore = stores.GCSStore(bucket, **options, **common)
    return opened


def _open_azure(
    stores: Any, definition: SourceDefinition, bucket: str, environ: Mapping[str, str], common: dict[str, Any]
) -> ObjectStore:
    endpoint = definition.endpoint.rstrip("/") or f"https://{definition.account}.blob.core.windows.net"
    options: dict[str, Any] = {
        "account_name": definition.account,
        "endpoint": endpoint,
        "use_emulator": False,
    }
    if definition.secret_env:
        options["account_key"] = from_env(definition.secret_env, environ).reveal()
        options["skip_signature"] = False
    else:
        options["skip_signature"] = True
    opened: ObjectStore = stores.AzureStore(bucket, **options, **common)
    return opened
