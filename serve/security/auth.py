"""The API keys that tell who sends a request. They are compared in constant time."""

import hashlib
import hmac

from serve.api.errors import APIError

ANYBODY = "anybody"  # the owner of every request to a server without keys


def account_of(owner: str) -> str:
    """Returns the owner name of the key that an owner's files and work count for.

    A session of the page, which only its browser may use, is the owner KEY/SESSION.
    """
    return owner.partition("/")[0]


class ApiKeys:
    """The API keys of a server. Only their hashes are kept in memory."""

    def __init__(self, keys: tuple[str, ...]):
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    @property
    def required(self) -> bool:
        return bool(self._digests)

    @property
    def owners(self) -> set[str]:
        """The names of all holders of keys."""
        return {digest.hex()[:16] for digest in self._digests} or {ANYBODY}

    def owner(self, authorization: str | None) -> str:
        """Returns a name for the holder of the key in an Authorization header. Raises APIError 401.

        The name is derived from the key's hash, so that logs may contain it.
        """
        if not self._digests:
            return ANYBODY
        scheme, _, key = (authorization or "").partition(" ")
        given = hashlib.sha256(key.strip().encode()).digest()
        # Every key is compared, and each in constant time: how long this takes reveals nothing about the keys.
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise APIError(401, "no valid API key; send it as Authorization: Bearer KEY", "invalid_api_key")
        return given.hex()[:16]
