"""Segments of a playlist that are encrypted with AES-128 (RFC 8216, 4.3.2.4)."""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from videollm.live.http import HTTPBody

BLOCK_BYTES = 16


class DecryptedBody:
    """The plain text of a body that is encrypted in CBC mode, as a file that FFmpeg reads.

    Args:
        body: What is encrypted.
        key, iv: 16 bytes each.
    """

    def __init__(self, body: HTTPBody, key: bytes, iv: bytes):
        self.name, self._body, self._has_ended = body.name, body, False
        self._decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
        self._unpadder = PKCS7(8 * BLOCK_BYTES).unpadder()

    def read(self, size: int) -> bytes:
        """Returns up to `size` bytes, and none at the end. Raises OSError where the body ends within a block."""
        while not self._has_ended:
            # The block that is held back may come on top, and one byte at least is read.
            data = self._body.read(max(1, size - 2 * BLOCK_BYTES))
            self._has_ended = not data
            plain = self._unpadder.update(self._decryptor.update(data)) if data else self._last()
            if plain:
                return plain
        return b""

    def close(self) -> None:
        self._body.close()

    def _last(self) -> bytes:
        try:
            return self._unpadder.update(self._decryptor.finalize()) + self._unpadder.finalize()
        except ValueError as error:
            raise OSError("a segment cannot be decrypted to its end") from error
