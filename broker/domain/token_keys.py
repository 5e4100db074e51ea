"""The keys that user tokens are verified with, as configured: secrets and a public key.

Those that an identity provider publishes are `key_set`'s.

A key has exactly one algorithm, which follows from the key and never from a token: secrets
HS256, RSA RS256, P-256 ES256, Ed25519 EdDSA. Weak and unknown keys are refused here, at start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from config.errors import ConfigError

if TYPE_CHECKING:
    from config.settings import Settings

    PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_RSA_BITS_MIN: Final = 2048


def configured_keys(settings: Settings) -> Mapping[str, Sequence[Any]]:
    """Return algorithm → keys of `settings`, the newest first; ConfigError if one is unusable."""
    keys: dict[str, Sequence[Any]] = {}
    secrets = (settings.jwt_secret, settings.jwt_secret_previous)
    keys["HS256"] = [secret.get_secret_value() for secret in secrets if secret is not None]
    if settings.jwt_public_key is not None:
        algorithm, key = _load_public_key(settings.jwt_public_key)
        keys[algorithm] = [key]
    if settings.jwt_jwks_url is not None and not urlsplit(settings.jwt_jwks_url).hostname:
        raise ConfigError("JWT_JWKS_URL: it names no host; allowed: an address such as https://…")
    return keys


def _load_public_key(text: str) -> tuple[str, object]:
    """Return (the one algorithm that fits the key, the key) of PEM text or a file's path."""
    allowed = "allowed: an RSA (2048 bits or more), P-256 or Ed25519 public key in PEM form"
    pem = text
    if not text.startswith("-----BEGIN"):
        try:
            pem = Path(text).expanduser().read_text("ascii")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ConfigError(
                f"JWT_PUBLIC_KEY: the file can not be read ({reason}); {allowed}"
            ) from None
    try:
        if "BEGIN CERTIFICATE" in pem:
            key: object = x509.load_pem_x509_certificate(pem.encode()).public_key()
        else:
            key = load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(f"JWT_PUBLIC_KEY: it is not a public key; {allowed}") from None
    algorithm = algorithm_of(key)
    if algorithm is None:
        raise ConfigError(f"JWT_PUBLIC_KEY: a key of this type is not supported; {allowed}")
    return algorithm, key


def algorithm_of(key: object) -> str | None:
    """The one algorithm that fits a public key; None if it is of no supported kind or weak."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _RSA_BITS_MIN:
        return "RS256"
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return "ES256"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EdDSA"
    return None
