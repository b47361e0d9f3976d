"""Who is asking: API keys, signatures over the exact bytes, the time window (general-info page)."""

import hmac
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from urllib.parse import unquote_plus

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from processes.venue.errors import VenueError

RECV_WINDOW_MS = 5_000  # the venue's default
RECV_WINDOW_MS_MAX = 60_000  # Spot's documented bound; futures document none
AHEAD_MS_MAX = 1_000


class Key:
    """One API key: the account it trades for and what proves that a request is its owner's."""

    def __init__(
        self, api_key: str, account: int, secret: str = "", ed25519_public: bytes = b""
    ) -> None:
        self.api_key = api_key
        self.account = account
        self.secret = secret.encode()
        self.public = Ed25519PublicKey.from_public_bytes(ed25519_public) if ed25519_public else None

    def check_signature(self, payload: bytes, signature: str) -> None:
        """Judge a signature: hex HMAC-SHA256 in either case, or base64 Ed25519.

        Raises:
            VenueError: -1022.
        """
        if self.public is not None:
            try:
                self.public.verify(b64decode(signature, validate=True), payload)
                return
            except (InvalidSignature, Base64Error, ValueError):
                raise VenueError(-1022) from None
        expected = sign(self.secret, payload)
        if not hmac.compare_digest(expected.encode(), signature.lower().encode()):
            raise VenueError(-1022)


class Keys:
    """The table of API keys."""

    def __init__(self, keys: list[Key]) -> None:
        self.by_name = {key.api_key: key for key in keys}

    def find(self, api_key: str | None) -> Key:
        """Return the key of a request.

        Raises:
            VenueError: -2014 if it is missing or cannot be a key, -2015 if it is unknown.
        """
        if not api_key or not api_key.isascii() or not api_key.isprintable():
            raise VenueError(-2014)
        key = self.by_name.get(api_key)
        if key is None:
            raise VenueError(-2015)
        return key


def sign(secret: bytes, payload: bytes) -> str:
    """Return the lower-case hex HMAC-SHA256 of a payload."""
    return hmac.new(secret, payload, "sha256").hexdigest()


def parse_form(text: str) -> dict[str, str]:
    """Return the decoded parameters of a query string or form body; the first of a name wins."""
    params: dict[str, str] = {}
    for part in text.split("&"):
        if part:
            name, _, value = part.partition("=")
            params.setdefault(unquote_plus(name), unquote_plus(value))
    return params


def split_signature(text: str) -> tuple[str, str | None]:
    """Return the text without its `signature=` part, byte for byte, and that signature or None."""
    kept, signature = [], None
    for part in text.split("&"):
        if part.startswith("signature="):
            signature = unquote_plus(part[len("signature=") :])
        else:
            kept.append(part)
    return "&".join(kept), signature


def check_signed_form(key: Key, query: str, body: str) -> None:
    """Judge a SIGNED REST request: query string then body, with nothing between them.

    Raises:
        VenueError: -1102 without a signature, -1022 with a wrong one.
    """
    bare_query, in_query = split_signature(query)
    bare_body, in_body = split_signature(body)
    signature = in_query if in_query is not None else in_body
    if not signature:
        raise VenueError(-1102, "signature")
    key.check_signature((bare_query + bare_body).encode(), signature)


def sorted_payload(params: Mapping[str, object]) -> bytes:
    """Return what a WebSocket API request signs: all params but the signature, sorted by name."""
    return "&".join(
        f"{name}={text_of(params[name])}" for name in sorted(params) if name != "signature"
    ).encode()


def text_of(value: object) -> str:
    """Return a JSON scalar as the text that clients sign."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def check_time(params: Mapping[str, str], now_ms: int) -> None:
    """Judge `timestamp` against the venue's clock and `recvWindow`.

    Raises:
        VenueError: -1102, -1130 or -1021.
    """
    timestamp = parse_int(params.get("timestamp"), "timestamp")
    window = RECV_WINDOW_MS
    if "recvWindow" in params:
        window = parse_int(params["recvWindow"], "recvWindow")
        if window > RECV_WINDOW_MS_MAX:
            raise VenueError(-1130, "recvWindow")
    if timestamp >= now_ms + AHEAD_MS_MAX:
        raise VenueError(
            -1021,
            message="Timestamp for this request was 1000ms ahead of the server's time.",
        )
    if now_ms - timestamp > window:
        raise VenueError(-1021)


def parse_int(text: str | None, name: str) -> int:
    """Return an unsigned integer parameter.

    Raises:
        VenueError: -1102 if it is missing, empty or not digits.
    """
    if text is None or not text.isdecimal() or not text.isascii() or len(text) > 18:
        raise VenueError(-1102, name)
    return int(text)
