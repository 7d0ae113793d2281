"""Signatures of manifests with Ed25519, if the deployment has a signing key.

Workers have the signing key. The container of a step has only the verification key, so it can't sign a result of
another step. The worker signs the manifest of a container; see :func:`ml_pipelines.runner.signing.sign_result`.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ml_pipelines.errors import RequestError
from ml_pipelines.store.layout import Manifest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["SIGNING_KEY", "VERIFICATION_KEY", "ManifestKeys"]

SIGNING_KEY = "ML_PIPELINES_SIGNING_KEY"
"""Environment variable of the signing key: 32 random bytes as 64 hex digits. Secret."""
VERIFICATION_KEY = "ML_PIPELINES_VERIFICATION_KEY"
"""Environment variable of the verification key, which belongs to a signing key."""

# A signature for another purpose is not valid for a manifest.
_PURPOSE = b"ml-pipelines manifest\n"


class ManifestKeys:
    """The keys that sign and verify manifests.

    Args:
        signing: the signing key as 64 hex digits; empty for a process that only verifies.
        verification: the verification key as 64 hex digits; unused with a signing key.

    Raises:
        RequestError: a key has another form.
    """

    def __init__(self, signing: str = "", verification: str = "") -> None:
        self._signing = _key_bytes(signing, SIGNING_KEY) if signing else None
        self._verification = _key_bytes(verification, VERIFICATION_KEY) if not signing else None

    @classmethod
    def of(cls, signing: str = "", verification: str = "") -> ManifestKeys | None:
        """Return the keys; None if neither key is set, so that manifests are not verified."""
        return cls(signing, verification) if signing or verification else None

    @property
    def can_sign(self) -> bool:
        """Whether these keys include the signing key."""
        return self._signing is not None

    @property
    def verification(self) -> str:
        """The verification key as 64 hex digits."""
        return self._public.public_bytes_raw().hex()

    def sign(self, manifest: Manifest) -> Manifest:
        """Return the manifest with a signature; unchanged without a signing key."""
        if self._private is None:
            return manifest
        return manifest.model_copy(update={"signature": self._private.sign(_signed_bytes(manifest)).hex()})

    def is_signed(self, manifest: Manifest) -> bool:
        """Return whether the signature of a manifest is valid."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._public.verify(bytes.fromhex(manifest.signature), _signed_bytes(manifest))
        except (InvalidSignature, ValueError):
            return False
        return True

    @cached_property
    def _private(self) -> Ed25519PrivateKey | None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self._signing) if self._signing else None

    @cached_property
    def _public(self) -> Ed25519PublicKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        if self._private is not None:
            return self._private.public_key()
        return Ed25519PublicKey.from_public_bytes(self._verification or b"")


def _signed_bytes(manifest: Manifest) -> bytes:
    return _PURPOSE + manifest.model_dump_json(exclude={"signature"}).encode()


def _key_bytes(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise RequestError(
            "the key for manifests has a wrong form",
            where=where,
            expected="64 hex digits",
            got=f"{len(text)} characters",
            fix="create a signing key with `openssl rand -hex 32`",
        )
    return key
