"""Requests of the WebSocket order API as bytes: templates with only the variable parts filled in.

Parameters are written in the order of their names, so that one pass gives both the signature
payload (k=v&...) and the JSON (websocket-api-general-info). Each request carries its own key and
HMAC signature, because session.logon takes Ed25519 keys only.
"""

from common import order_ids
from common.binance import Credentials, Signer, is_encodable, order_params
from common.enums import OrderType, RequestKind
from common.instruments import Instrument
from common.messages import OrderRequest

TEXTS_MAX = 65_536
METHODS = {
    RequestKind.NEW: "order.place",
    RequestKind.REPLACE: "order.modify",
    RequestKind.CANCEL: "order.cancel",
}
# Parameters that change from request to request; the rest of a template is constant text.
_VARIABLE = frozenset(
    ("newClientOrderId", "orderId", "origClientOrderId", "price", "quantity", "timestamp")
)
_HOLE = "\0"
_NUMBERS = frozenset(("orderId", "recvWindow", "timestamp"))  # JSON ints; all else is strings


class Texts:
    """Prices and quantities of one instrument as the venue writes them, remembered."""

    __slots__ = ("instrument", "prices", "quantities")

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.prices: dict[int, bytes] = {}
        self.quantities: dict[int, bytes] = {}

    def price(self, price_steps: int) -> bytes:
        """Return a price as text."""
        text = self.prices.get(price_steps)
        if text is None:
            if len(self.prices) >= TEXTS_MAX:
                self.prices.clear()
            text = self.instrument.price_text(price_steps).encode()
            self.prices[price_steps] = text
        return text

    def qty(self, qty_steps: int) -> bytes:
        """Return a quantity as text."""
        text = self.quantities.get(qty_steps)
        if text is None:
            if len(self.quantities) >= TEXTS_MAX:
                self.quantities.clear()
            text = self.instrument.qty_text(qty_steps).encode()
            self.quantities[qty_steps] = text
        return text


class Template:
    """One kind of request for one instrument, cut at its variable parts."""

    __slots__ = ("_signer", "_payload", "_frame")

    def __init__(self, method: str, params: dict[str, str], signer: Signer) -> None:
        names = sorted(params)
        payload = "&".join(f"{name}={_hole(name, params[name])}" for name in names)
        # The first variable part splits the payload: what is before it is hashed once, here.
        head, _, tail = payload.partition(_HOLE)
        self._signer = signer.begin(head.encode())
        self._payload = _format(_HOLE + tail)
        fields = ",".join(
            f'"{name}":{_hole(name, params[name])}'
            if name in _NUMBERS
            else f'"{name}":"{_hole(name, params[name])}"'
            for name in names
        )
        body = f'"method":"{method}","params":{{{fields},"signature":"{_HOLE}"}}}}'
        self._frame = b'{"id":%d,' + _format(body)

    def fill(self, request_id: int, values: tuple[bytes, ...]) -> bytes:
        """Return the text frame with the variable parts, in name order, and the signature."""
        signature = self._signer.sign(self._payload % values).encode()
        return self._frame % (request_id, *values, signature)


class Encoder:
    """Templates of all instruments, built as they are first used.

    Args:
        stp_mode: selfTradePreventionMode of every new order.
        recv_window_ms: the venue refuses a request that is older on arrival.
    """

    def __init__(
        self,
        instruments: list[Instrument],
        credentials: Credentials,
        stp_mode: str,
        recv_window_ms: int,
    ) -> None:
        self.instruments = instruments
        self.texts = [Texts(instrument) for instrument in instruments]
        self.credentials = credentials
        self.stp_mode = stp_mode
        self.recv_window_ms = recv_window_ms
        self.templates: dict[tuple[int, ...], Template] = {}

    def encode(self, request: OrderRequest, request_id: int, venue_ms: int) -> bytes:
        """Return the frame of one NEW, REPLACE or CANCEL; empty if the record cannot be written.

        Args:
            request_id: `id` that the answer will carry.
            venue_ms: `timestamp`, the venue's wall clock.
        """
        if not is_encodable(request, len(self.instruments)):
            return b""
        key = template_key(request)
        template = self.templates.get(key)
        if template is None:
            template = self.templates[key] = self.build(request)
        return template.fill(request_id, self.values(template, request, venue_ms))

    def build(self, request: OrderRequest) -> Template:
        """Return the template of a request's kind."""
        instrument = self.instruments[request.instrument_id]
        params = order_params(request, instrument, self.stp_mode)
        params["apiKey"] = self.credentials.api_key
        params["recvWindow"] = str(self.recv_window_ms)
        params["timestamp"] = "0"
        return Template(METHODS[RequestKind(request.kind)], params, self.credentials.signer)

    def values(self, template: Template, request: OrderRequest, venue_ms: int) -> tuple[bytes, ...]:
        """Return the variable parts, in the order of their names."""
        texts = self.texts[request.instrument_id]
        timestamp = b"%d" % venue_ms
        if request.kind == RequestKind.NEW:
            client_order_id = order_ids.to_text(request.client_order_id).encode()
            quantity = texts.qty(request.order_qty_steps)
            if request.order_type == OrderType.MARKET:
                return client_order_id, quantity, timestamp
            return client_order_id, texts.price(request.price_steps), quantity, timestamp
        if request.orig_client_order_id:
            order = order_ids.to_text(request.orig_client_order_id).encode()
        else:
            order = b"%d" % request.venue_order_id
        if request.kind == RequestKind.CANCEL:
            return order, timestamp
        price, quantity = texts.price(request.price_steps), texts.qty(request.order_qty_steps)
        return order, price, quantity, timestamp


def template_key(request: OrderRequest) -> tuple[int, ...]:
    """Return what requests have in common that fill the same template."""
    if request.kind == RequestKind.NEW:
        return (
            request.instrument_id,
            request.kind,
            request.side,
            request.order_type,
            request.time_in_force,
            request.reduce_only,
        )
    has_own_id = request.orig_client_order_id > 0
    if request.kind == RequestKind.REPLACE:
        return (request.instrument_id, request.kind, request.side, has_own_id)
    return (request.instrument_id, request.kind, has_own_id)


def _hole(name: str, value: str) -> str:
    """Return a parameter's place in a template: a hole, or its constant text."""
    return _HOLE if name in _VARIABLE else value


def _format(text: str) -> bytes:
    """Return text with holes as a bytes format."""
    return text.replace("%", "%%").replace(_HOLE, "%b").encode()
