"""Who sends a request: keys compared in constant time."""

import hashlib
import hmac

from serve.api.errors import APIError

ANYBODY = "anybody"


class Keys:
    """The API keys of a server. Only their hashes are kept."""

    def __init__(self, keys: tuple[str, ...]):
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    @property
    def required(self) -> bool:
        return bool(self._digests)

    def owner(self, authorization: str | None) -> str:
        """A name for whoever holds the key in the header, fit for logs. Every key is compared, so that the time taken
        says nothing of them. Raises APIError 401."""
        if not self._digests:
            return ANYBODY
        scheme, _, key = (authorization or "").partition(" ")
        given = hashlib.sha256(key.strip().encode()).digest()
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise APIError(401, "no valid API key; send it as Authorization: Bearer KEY", "invalid_api_key")
        return given.hex()[:16]
