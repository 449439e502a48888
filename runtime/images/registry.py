"""One registry over HTTP: manifests and blobs, with its ways of signing in.

Sources: OCI distribution spec 1.1; Docker's token authentication specification. What comes back is
believed only after its digest has been checked.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from runtime.errors import (
    ArchiveInvalid,
    AuthFailed,
    DigestMismatch,
    EngineError,
    NotFound,
    RegistryError,
    RegistryUnavailable,
)
from runtime.images.manifest import architecture
from runtime.model.reference import DEFAULT_REGISTRY, Reference

_HUB = "registry-1.docker.io"
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_ACCEPT = ", ".join((*_MANIFESTS, *_INDEXES))
_MAX_MANIFEST = 8 << 20  # bytes
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class RegistryClient:
    """Use with `with`. `timeout` is the longest silence in seconds, not the longest download."""

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
        host = _HUB if registry == DEFAULT_REGISTRY else registry
        self._base = f"{'http' if plain_http else 'https'}://{host}/v2"
        silence = timeout or float(os.environ.get("SLIPWAY_REGISTRY_TIMEOUT", 20.0))
        self._http = httpx.Client(
            timeout=httpx.Timeout(silence, connect=min(silence, 5.0)),
            # A blob is often at another host; httpx then drops the Authorization header.
            follow_redirects=True,
            headers={"User-Agent": "slipway"},
        )
        self._authorization = ""

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    # -- manifests ----------------------------------------------------------------------------

    def manifest(self, reference: Reference) -> tuple[dict[str, Any], str]:
        """(manifest of this host's platform, its digest). Raises NotFound, AuthFailed, RegistryError."""
        document, digest = self._manifest(reference.repository, reference.digest or reference.tag)
        if document.get("mediaType") in _INDEXES or "manifests" in document:
            chosen = _for_this_host(document, reference)
            document, digest = self._manifest(reference.repository, chosen)
        if "layers" not in document or "config" not in document:
            raise RegistryError(
                f"{reference.familiar} is no container image, or of a kind too old to be known.",
                hint="Choose another tag.",
                field="reference",
            )
        return document, digest

    def _manifest(self, repository: str, name: str) -> tuple[dict[str, Any], str]:
        url = f"{self._base}/{repository}/manifests/{name}"
        with self._get(url, repository, headers={"Accept": _ACCEPT}) as answer:
            data = b""
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) > _MAX_MANIFEST:
                    raise RegistryError(f"The manifest of {repository} is absurdly large.")
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if name.startswith("sha256:") and digest != name:
            raise DigestMismatch(
                f"The registry sent another manifest than {name[:19]}….",
                hint="Something between here and the registry changes what it sends.",
                field="reference",
            )
        try:
            document = json.loads(data)
        except ValueError as error:
            raise RegistryError(f"{self.registry} sent a manifest that is not JSON.") from error
        if not isinstance(document, dict):
            raise RegistryError(f"{self.registry} sent a manifest that is no object.")
        return document, digest

    # -- blobs --------------------------------------------------------------------------------

    @contextmanager
    def blob(self, repository: str, digest: str, *, offset: int = 0) -> Iterator[tuple[Any, int]]:
        """(iterator of bytes, offset they begin at) of a blob; a registry may ignore `offset`."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        url = f"{self._base}/{repository}/blobs/{digest}"
        with self._get(url, repository, headers=headers) as answer:
            begins = offset if answer.status_code == httpx.codes.PARTIAL_CONTENT else 0
            yield self._chunks(answer), begins

    def _chunks(self, answer: httpx.Response) -> Iterator[bytes]:
        try:
            yield from answer.iter_raw(1 << 18)
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error

    # -- one request --------------------------------------------------------------------------

    @contextmanager
    def _get(self, url: str, repository: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """A streaming GET; signs in when the registry asks for it."""
        for attempt in (1, 2):
            sent = {**headers}
            if self._authorization:
                sent["Authorization"] = self._authorization
            try:
                answer = self._http.send(
                    self._http.build_request("GET", url, headers=sent), stream=True
                )
            except httpx.HTTPError as error:
                raise self._unavailable(error) from error
            try:
                if answer.status_code == httpx.codes.UNAUTHORIZED and attempt == 1:
                    self._sign_in(answer.headers.get("WWW-Authenticate", ""), repository)
                    continue
                self._check(answer, repository)
                yield answer
                return
            finally:
                answer.close()

    def _check(self, answer: httpx.Response, repository: str) -> None:
        status = answer.status_code
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise self._refused(repository)
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
            raise RegistryUnavailable(
                f"{self.registry} allows no more pulls for now.",
                hint="Sign in to it, or wait.",
                field="reference",
            )
        if status >= 400:
            raise RegistryUnavailable(f"{self.registry} answered {status}.", field="reference")

    def _sign_in(self, challenge: str, repository: str) -> None:
        """Basic, or a bearer token of the service that the challenge names."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            if self._credentials is None:
                raise self._refused(repository)
            pair = ":".join(self._credentials).encode()
            self._authorization = f"Basic {base64.b64encode(pair).decode()}"
            return
        parameters = dict(_PARAMETER.findall(rest))
        realm = parameters.get("realm", "")
        if scheme.lower() != "bearer" or not realm.startswith(("http://", "https://")):
            raise self._refused(repository)
        query = {"scope": parameters.get("scope") or f"repository:{repository}:pull"}
        if "service" in parameters:
            query["service"] = parameters["service"]
        try:
            answer = self._http.get(realm, params=query, auth=self._credentials)
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error
        if answer.status_code != httpx.codes.OK:
            raise self._refused(repository)
        try:
            document = answer.json()
            token = document.get("token") or document["access_token"]
        except (ValueError, KeyError, AttributeError) as error:
            raise RegistryError(f"{self.registry} sent no token.") from error
        self._authorization = f"Bearer {token}"

    def _refused(self, repository: str) -> AuthFailed:
        if self._credentials is None:
            return AuthFailed(
                f"{self.registry} wants a sign-in for {repository}, or has no such image.",
                hint="Give user name and password, and check the name.",
                field="username",
            )
        return AuthFailed(
            f"{self.registry} does not accept the user name or password.",
            hint="Check both; many registries want an access token as password.",
            field="password",
        )

    def _unavailable(self, error: httpx.HTTPError) -> EngineError:
        if isinstance(error, httpx.TimeoutException):
            failure = RegistryUnavailable(
                f"{self.registry} does not answer.",
                hint="Check its name and this host's way there, then try again.",
                field="reference",
            )
            # It has had its time; trying again at once would only take as long again.
            failure.retryable = False
            return failure
        text = str(error)
        if "SSL" in text or "TLS" in text.upper() or "WRONG_VERSION" in text:
            return RegistryUnavailable(
                f"{self.registry} does not speak TLS as it should: {text}.",
                hint="For one that speaks plain HTTP add it to the registries (Admin, Registries) "
                "and allow plain HTTP.",
                field="reference",
            )
        return RegistryUnavailable(
            f"{self.registry} cannot be reached: {text}.",
            hint="Check its name and this host's way there.",
            field="reference",
        )


def _for_this_host(index: dict[str, Any], reference: Reference) -> str:
    """Digest of the manifest for linux on this architecture."""
    wanted = architecture()
    offered: list[str] = []
    for entry in index.get("manifests") or ():
        where = entry.get("platform") or {}
        if where.get("os") == "linux" and where.get("architecture") == wanted:
            return str(entry["digest"])
        offered.append(f"{where.get('os')}/{where.get('architecture')}")
    raise ArchiveInvalid(
        f"{reference.familiar} is not made for linux/{wanted}.",
        hint=f"It is made for {', '.join(sorted(set(offered)))}.",
        field="reference",
    )
