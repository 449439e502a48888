"""One registry: manifests and blobs, with its ways of signing in.

Sources: OCI distribution spec 1.1; Docker's token authentication specification. What comes back is
believed only after its digest has been checked.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from runtime.errors import (
    AuthFailed,
    DigestMismatch,
    NotFound,
    RegistryError,
    RegistryUnavailable,
)
from runtime.images.manifest import (
    INDEXES,
    MANIFESTS,
    MAX_DOCUMENT,
    Manifest,
    checked_digest,
    choose,
    is_index,
    is_manifest,
    parse_manifest,
    parse_object,
)
from runtime.images.transport import Transport
from runtime.model.reference import DEFAULT_REGISTRY, Reference

_HUB = "registry-1.docker.io"
_ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
_MAX_NESTING = 3  # indexes in indexes
_MAX_TOKEN = 1 << 20  # bytes
_SCHEME = re.compile(r"(?i)(?:^|,)\s*(basic|bearer)\s+")
_PARAMETER = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,"]+))')
_TOKEN = re.compile(r"[\x21-\x7e]+")
_RANGE = re.compile(r"bytes ([0-9]{1,18})-")


class RegistryClient:
    """Use with `with`; several threads may share one. `timeout` is the longest silence in seconds."""

    def __init__(
        self,
        registry: str,
        *,
        credentials: tuple[str, str] | None = None,
        plain_http: bool = False,
        timeout: float | None = None,
    ) -> None:
        self.registry = registry
        self._credentials = credentials
        self._plain_http = plain_http
        host = _HUB if registry == DEFAULT_REGISTRY else registry
        self._base = f"{'http' if plain_http else 'https'}://{host}/v2"
        self._transport = Transport(registry, silence=timeout)
        self._authorization: dict[str, str] = {}

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.__exit__()

    def abort(self) -> None:
        """End what other threads are waiting for; they get RegistryUnavailable."""
        self._transport.abort()

    # -- manifests and blobs --------------------------------------------------------------------

    def manifest(self, reference: Reference) -> tuple[Manifest, str]:
        """(manifest for this host's platform, its digest).

        Raises NotFound, AuthFailed, DigestMismatch, RegistryError, RegistryUnavailable, and
        ArchiveInvalid when the image is not made for this platform.
        """
        name = reference.digest or reference.tag
        for _ in range(_MAX_NESTING):
            document, kind, digest = self._document(reference.repository, name)
            if not is_index(document, kind):
                break
            name = checked_digest(choose(document, reference.familiar).get("digest"))
        if not is_manifest(document):
            raise RegistryError(
                f"{reference.familiar} is no container image, or of a kind too old to be known.",
                hint="Choose another tag.",
                field="reference",
            )
        return parse_manifest(document), digest

    def _document(self, repository: str, name: str) -> tuple[dict[str, object], str, str]:
        """(document, media type it was sent as, digest)."""
        url = f"{self._base}/{repository}/manifests/{name}"
        with self._get(url, repository, {"Accept": _ACCEPT}) as answer:
            data = self._transport.small_body(answer, MAX_DOCUMENT)
            kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if name.startswith("sha256:") and digest != name:
            raise DigestMismatch(
                f"The registry sent another manifest than {name[:19]}….",
                hint="Something between here and the registry changes what it sends.",
                field="reference",
            )
        return parse_object(data, f"What {self.registry} sent as a manifest"), kind, digest

    @contextmanager
    def blob(
        self, repository: str, digest: str, *, offset: int = 0
    ) -> Iterator[tuple[Iterator[bytes], int]]:
        """(iterator of bytes, offset they begin at) of a blob; a registry may ignore `offset`."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        # Without it a proxy may pack once more what is packed already.
        headers["Accept-Encoding"] = "identity"
        url = f"{self._base}/{repository}/blobs/{digest}"
        with self._get(url, repository, headers) as answer:
            begins = 0
            if answer.status_code == httpx.codes.PARTIAL_CONTENT:
                match = _RANGE.match(answer.headers.get("Content-Range", ""))
                begins = int(match[1]) if match else offset
            if begins > offset:
                raise RegistryError(f"{self.registry} sent another part of a blob than asked for.")
            yield self._transport.body(answer, raw=True), begins

    # -- one request --------------------------------------------------------------------------

    @contextmanager
    def _get(self, url: str, repository: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """A streaming GET; signs in when the registry asks for it."""
        with self._transport.get(url, headers=headers | self._authorization) as answer:
            if answer.status_code != httpx.codes.UNAUTHORIZED:
                self._check(answer, repository)
                yield answer
                return
            challenge = answer.headers.get("WWW-Authenticate", "")
        # Not signed in so far, or the token has expired.
        self._sign_in(challenge, repository)
        with self._transport.get(url, headers=headers | self._authorization) as answer:
            self._check(answer, repository)
            yield answer

    def _check(self, answer: httpx.Response, repository: str) -> None:
        """Raise what a status means, unless it means success."""
        status = answer.status_code
        if answer.is_success:
            return
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise self._denied(repository)
        if status == httpx.codes.NOT_FOUND:
            what = answer.request.url.path.rpartition("/")[2]
            raise NotFound(
                f"{self.registry} has no {repository}:{what}."
                if not what.startswith("sha256:")
                else f"{self.registry} has no {what[:19]}… in {repository}.",
                hint="Check the name and the tag.",
                field="reference",
            )
        if status == httpx.codes.TOO_MANY_REQUESTS:
            failure = RegistryUnavailable(
                f"{self.registry} allows no more pulls for now.",
                hint="Sign in to it, or wait.",
                field="reference",
            )
        else:
            failure = RegistryUnavailable(f"{self.registry} answered {status}.", field="reference")
        failure.retryable = answer.is_server_error
        raise failure

    # -- signing in ---------------------------------------------------------------------------

    def _sign_in(self, challenge: str, repository: str) -> None:
        """Basic, or a bearer token of the service that the challenge names (RFC 9110, 11.6.1)."""
        schemes = {m[1].lower(): challenge[m.end() :] for m in _SCHEME.finditer(challenge)}
        if "bearer" in schemes:
            token = self._token(schemes["bearer"], repository)
            self._authorization = {"Authorization": f"Bearer {token}"}
        elif "basic" in schemes and self._credentials is not None:
            self._authorization = {"Authorization": _basic(self._credentials)}
        else:
            raise self._denied(repository)

    def _token(self, challenge: str, repository: str) -> str:
        """Raises AuthFailed, RegistryError, RegistryUnavailable."""
        found = _PARAMETER.findall(challenge)
        # Backwards, so that the first of a name wins: another scheme's may follow.
        parameters = {key.lower(): quoted or bare for key, quoted, bare in reversed(found)}
        realm = parameters.get("realm", "")
        # A registry behind TLS has no reason to want the password in the clear.
        if not realm.startswith(("https://", "http://") if self._plain_http else "https://"):
            raise RegistryError(
                f"{self.registry} wants a sign-in at {realm[:80]!r}, which is not safe.",
                field="reference",
            )
        query = {"scope": parameters.get("scope") or f"repository:{repository}:pull"}
        if "service" in parameters:
            query["service"] = parameters["service"]
        headers = {"Authorization": _basic(self._credentials)} if self._credentials else {}
        with self._transport.get(realm, parameters=query, headers=headers) as answer:
            if answer.status_code in (400, 401, 403):
                raise self._refused() if self._credentials else self._denied(repository)
            self._check(answer, repository)
            data = self._transport.small_body(answer, _MAX_TOKEN)
        document = parse_object(data, f"What {self.registry} sent as a token")
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise RegistryError(f"{self.registry} sent no token.", field="reference")
        return token

    def _denied(self, repository: str) -> AuthFailed:
        """The repository is not to be had by whoever asks."""
        if self._credentials is None:
            return AuthFailed(
                f"{self.registry} wants a sign-in for {repository}, or has no such image.",
                hint="Give user name and password, and check the name.",
                field="username",
            )
        if self._authorization.get("Authorization", "").startswith("Basic"):
            return self._refused()
        return AuthFailed(
            f"{self.registry} does not give {repository} to this user, or has no such image.",
            hint="Check the name, and what the user may pull.",
            field="reference",
        )

    def _refused(self) -> AuthFailed:
        """The sign-in itself failed."""
        return AuthFailed(
            f"{self.registry} does not accept the user name or password.",
            hint="Check both; many registries want an access token as password.",
            field="password",
        )


def _basic(credentials: tuple[str, str]) -> str:
    return f"Basic {base64.b64encode(':'.join(credentials).encode()).decode()}"
