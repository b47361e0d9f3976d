"""The WebSocket order API: one JSON request per text frame, matched by id (websocket-api pages).

Sans-I/O: text in, text out; the session state is an object of the connection.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from processes.venue import auth
from processes.venue.auth import Key
from processes.venue.errors import VenueError
from processes.venue.exchange import Exchange
from processes.venue.rest import depth_limit
from processes.venue.streams import read_json

HANDSHAKE_WEIGHT = 5
METHODS_BY_KEY = ("userDataStream.start", "userDataStream.ping", "userDataStream.stop")


class Session:
    """One connection: who logged on, and what its answers show."""

    def __init__(self, ip: str, now_ms: int, shows_limits: bool) -> None:
        self.ip = ip
        self.connected_ms = now_ms
        self.shows_limits = shows_limits
        self.key: Key | None = None
        self.authorized_ms = 0
        self.is_counted = False


class Call(msgspec.Struct):
    """One request, judged."""

    session: Session
    params: dict[str, str]
    now_ms: int
    key: Key | None

    @property
    def account(self) -> int:
        """Return the account that asks."""
        assert self.key is not None
        return self.key.account


class Method(msgspec.Struct):
    """One method: its body, IP weight, "none" / "key" / "signed", and orders counted."""

    call: Callable[[Call], Any]
    weight: int = 1
    security: str = "signed"
    orders: int = 0


class WsApi:
    """All methods on one exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        t, v, users = exchange.trading, exchange.views, exchange.users
        self.methods = {
            "ping": Method(lambda c: {}, 1, "none"),
            "time": Method(lambda c: {"serverTime": c.now_ms}, 1, "none"),
            "depth": Method(self.depth, 5, "none"),
            "order.place": Method(self.place, 0, orders=1),
            "order.modify": Method(
                lambda c: t.modify(c.account, c.params, c.now_ms).placed(False), 0, orders=1
            ),
            "order.cancel": Method(lambda c: t.cancel(c.account, c.params, c.now_ms).placed(False)),
            "order.status": Method(lambda c: t.query(c.account, c.params).queried()),
            "account.balance": Method(lambda c: v.balances(c.account), 5),
            "v2/account.balance": Method(lambda c: v.balances(c.account), 5),
            "account.status": Method(lambda c: v.account(c.account, "v2"), 5),
            "v2/account.status": Method(lambda c: v.account(c.account, "v3"), 5),
            "account.position": Method(self.positions("v2"), 5),
            "v2/account.position": Method(self.positions("v3"), 5),
            "userDataStream.start": Method(
                lambda c: {"listenKey": users.start(c.account, c.now_ms)}, 5, "key"
            ),
            "userDataStream.ping": Method(
                lambda c: {"listenKey": users.keep_alive(c.account, c.now_ms)}, 1, "key"
            ),
            "userDataStream.stop": Method(self.stop_listen_key, 1, "key"),
            "session.logon": Method(self.logon, 2, "none"),
            "session.status": Method(self.status, 2, "none"),
            "session.logout": Method(self.logout, 2, "none"),
        }

    def place(self, call: Call) -> Any:
        """Take one new order."""
        trading = self.exchange.trading
        order = trading.place(call.account, call.params, call.now_ms)
        return trading.placed_body(order, call.params, has_fills=False)

    def depth(self, call: Call) -> Any:
        """Return a depth snapshot."""
        if not call.params.get("symbol"):
            raise VenueError(-1102, "symbol")
        return msgspec.Raw(
            self.exchange.depth(
                call.params["symbol"], depth_limit(call.params), call.now_ms
            ).encode()
        )

    def positions(self, version: str) -> Callable[[Call], Any]:
        """Return the position method of one version."""
        views = self.exchange.views
        return lambda c: views.position_risk(c.account, c.params.get("symbol"), version)

    def stop_listen_key(self, call: Call) -> Any:
        """Close the account's listenKey."""
        self.exchange.users.stop(call.account)
        return {}

    def logon(self, call: Call) -> Any:
        """Authenticate the connection; Ed25519 keys only."""
        key = self.exchange.keys.find(call.params.get("apiKey"))
        if key.public is None:
            raise VenueError(-1020, status=400)
        auth.check_time(call.params, call.now_ms)
        key.check_signature(auth.sorted_payload(call.params), call.params.get("signature", ""))
        call.session.key = key
        call.session.authorized_ms = call.now_ms
        return self.status(call)

    def logout(self, call: Call) -> Any:
        """Forget who logged on."""
        call.session.key = None
        return self.status(call)

    def status(self, call: Call) -> Any:
        """Return the session's state."""
        session = call.session
        key = session.key
        return {
            "apiKey": None if key is None else key.api_key,
            "authorizedSince": None if key is None else session.authorized_ms,
            "connectedSince": session.connected_ms,
            "returnRateLimits": session.shows_limits,
            "serverTime": call.now_ms,
        }

    def handle(
        self, session: Session, text: str | bytes, now_ms: int, overloaded: bool = False
    ) -> str:
        """Answer one frame; `overloaded` refuses it with -1008."""
        request_id: object = None
        key: Key | None = None
        try:
            request = read_request(text)
            request_id = request.get("id")
            if not session.is_counted:
                session.is_counted = True
                self.exchange.limits.add_weight(session.ip, HANDSHAKE_WEIGHT, now_ms)
            name = str(request.get("method"))
            method = self.methods.get(name)
            if method is None:
                raise VenueError(-1020)
            self.exchange.limits.add_weight(session.ip, method.weight, now_ms)
            raw = request.get("params") or {}
            params = {k: auth.text_of(v) for k, v in raw.items()}
            key = self.authorize(session, method, params, now_ms)
            if overloaded:
                raise VenueError(-1008)
            if method.orders and key is not None:
                self.exchange.limits.add_orders(key.account, 1, 1, now_ms)
            result = method.call(Call(session, params, now_ms, key))
            answer: dict[str, object] = {"id": request_id, "status": 200, "result": result}
        except VenueError as error:
            answer = {"id": request_id, "status": error.status, "error": error.body()}
        if session.shows_limits:
            account = None if key is None else key.account
            answer["rateLimits"] = self.exchange.limits.describe(session.ip, account, now_ms)
        return msgspec.json.encode(answer).decode()

    def authorize(
        self, session: Session, method: Method, params: dict[str, str], now_ms: int
    ) -> Key | None:
        """Return who asks: the request's own key, or the one that logged on.

        Raises:
            VenueError: -2014, -2015, -1102, -1022 or -1021.
        """
        if method.security == "none":
            return session.key
        if "apiKey" not in params and session.key is not None:
            key = session.key
            if method.security == "signed" and "signature" in params:
                key.check_signature(auth.sorted_payload(params), params["signature"])
        else:
            key = self.exchange.keys.find(params.get("apiKey"))
            if method.security == "signed":
                if not params.get("signature"):
                    raise VenueError(-1102, "signature")
                key.check_signature(auth.sorted_payload(params), params["signature"])
        if method.security == "signed":
            auth.check_time(params, now_ms)
        return key


def read_request(text: str | bytes) -> dict[str, Any]:
    """Return the request object of a frame.

    Raises:
        VenueError: -1100 for what is not a JSON object with a method and scalar params.
    """
    try:
        request = read_json(text)
    except ValueError:
        raise VenueError(-1100, "request") from None
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        raise VenueError(-1102, "method")
    if not isinstance(request.get("id"), int | str | None):
        raise VenueError(-1100, "id")
    params = request.get("params")
    if params is not None and not isinstance(params, dict):
        raise VenueError(-1102, "params")
    for name, value in (params or {}).items():
        if isinstance(value, dict | list) or value is None:
            raise VenueError(-1100, name)
    return request
