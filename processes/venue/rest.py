"""REST: routes, weights, security and headers around the exchange (general-info, endpoint pages).

Sans-I/O: a request comes as its parts, the answer goes back as status, body and headers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from processes.venue import auth
from processes.venue.auth import Key
from processes.venue.errors import VenueError
from processes.venue.exchange import Exchange
from processes.venue.streams import read_json

Body = Any  # what msgspec encodes, or str that is JSON already
DEPTH_WEIGHTS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}
BATCH_ORDERS_MAX = 5
BATCH_IDS_MAX = 10


class Request(msgspec.Struct):
    """One HTTP request as it came.

    Attributes:
        query, body: the exact text, for the signature; params: both decoded, query wins.
    """

    method: str
    path: str
    query: str
    body: str
    api_key: str | None
    ip: str
    now_ms: int
    params: dict[str, str] = {}
    key: Key | None = None

    @property
    def account(self) -> int:
        """Return the account that asks."""
        assert self.key is not None
        return self.key.account


class Answer(msgspec.Struct):
    """One HTTP response."""

    status: int
    body: bytes
    headers: dict[str, str]


class Route(msgspec.Struct):
    """One endpoint.

    Attributes:
        call: gives the body.
        weight: IP weight, or a function of the parameters.
        security: "none", "key" (X-MBX-APIKEY) or "signed".
        counts_order: the answer carries the order-count headers.
    """

    call: Callable[[Request], Body]
    weight: int | Callable[[dict[str, str]], int] = 1
    security: str = "signed"
    counts_order: bool = False


class Rest:
    """All endpoints on one exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.routes: dict[tuple[str, str], Route] = {}
        self.add_public()
        self.add_orders()
        self.add_account()

    def add(self, method: str, path: str, call: Callable[[Request], Body], **options: Any) -> None:
        """Register one endpoint under /fapi."""
        self.routes[method, "/fapi" + path] = Route(call, **options)

    def add_public(self) -> None:
        """Register what needs no key, and the listenKey."""
        x = self.exchange
        self.add("GET", "/v1/ping", lambda r: {}, security="none")
        self.add("GET", "/v1/time", lambda r: {"serverTime": r.now_ms}, security="none")
        self.add("GET", "/v1/exchangeInfo", lambda r: x.exchange_info(r.now_ms), security="none")
        self.add(
            "GET",
            "/v1/depth",
            lambda r: x.depth(symbol(r), depth_limit(r.params), r.now_ms),
            weight=lambda p: DEPTH_WEIGHTS[depth_limit(p)],
            security="none",
        )
        self.add(
            "GET",
            "/v1/premiumIndex",
            lambda r: x.views.premium_index(r.params.get("symbol"), r.now_ms),
            weight=lambda p: 1 if "symbol" in p else 10,
            security="none",
        )
        self.add(
            "GET",
            "/v1/aggTrades",
            lambda r: x.agg_trades(r.params),
            weight=20,
            security="none",
        )
        users = x.users
        self.add(
            "POST",
            "/v1/listenKey",
            lambda r: {"listenKey": users.start(r.account, r.now_ms)},
            security="key",
        )
        self.add(
            "PUT",
            "/v1/listenKey",
            lambda r: {"listenKey": users.keep_alive(r.account, r.now_ms)},
            security="key",
        )
        self.add("DELETE", "/v1/listenKey", self.stop_listen_key, security="key")

    def stop_listen_key(self, request: Request) -> Body:
        """Close the account's listenKey."""
        self.exchange.users.stop(request.account)
        return {}

    def add_orders(self) -> None:
        """Register order entry and order queries."""
        t = self.exchange.trading
        order = "/v1/order"
        self.add("POST", order, self.place, weight=0, counts_order=True)
        self.add("PUT", order, self.modify, weight=0, counts_order=True)
        self.add("DELETE", order, lambda r: t.cancel(r.account, r.params, r.now_ms).placed(True))
        self.add("GET", order, lambda r: t.query(r.account, r.params).queried())
        self.add("POST", "/v1/batchOrders", self.place_batch, weight=5, counts_order=True)
        self.add("DELETE", "/v1/batchOrders", self.cancel_batch)
        self.add("DELETE", "/v1/allOpenOrders", self.cancel_all)
        self.add(
            "POST",
            "/v1/countdownCancelAll",
            lambda r: t.countdown(r.account, r.params, r.now_ms),
            weight=10,
        )
        self.add("GET", "/v1/openOrder", lambda r: t.open_order(r.account, r.params).queried())
        self.add(
            "GET",
            "/v1/openOrders",
            lambda r: [o.queried() for o in t.open_orders(r.account, r.params.get("symbol"))],
            weight=lambda p: 1 if "symbol" in p else 40,
        )
        self.add(
            "GET",
            "/v1/allOrders",
            lambda r: [o.queried() for o in t.all_orders(r.account, r.params)],
            weight=5,
        )
        self.add(
            "GET",
            "/v1/userTrades",
            lambda r: [f.body() for f in t.user_trades(r.account, r.params)],
            weight=5,
        )

    def add_account(self) -> None:
        """Register balances, positions and settings."""
        v = self.exchange.views
        for version in ("v2", "v3"):
            self.add("GET", f"/{version}/account", partial(self.account, version), weight=5)
            self.add("GET", f"/{version}/balance", lambda r: v.balances(r.account), weight=5)
            self.add("GET", f"/{version}/positionRisk", partial(self.risk, version), weight=5)
        self.add("POST", "/v1/leverage", lambda r: v.set_leverage(r.account, r.params, r.now_ms))
        self.add("POST", "/v1/marginType", lambda r: v.set_margin_type(r.params))
        self.add("POST", "/v1/positionSide/dual", lambda r: v.set_dual_side(r.params))
        self.add("GET", "/v1/positionSide/dual", lambda r: {"dualSidePosition": False}, weight=30)
        self.add(
            "GET", "/v1/commissionRate", lambda r: v.commission_rate(r.account, r.params), weight=20
        )
        self.add(
            "GET", "/v1/symbolConfig", lambda r: v.symbol_config(r.account, r.params), weight=5
        )
        self.add("GET", "/v1/accountConfig", lambda r: v.account_config(r.now_ms), weight=5)
        self.add(
            "GET",
            "/v1/rateLimit/order",
            lambda r: [
                {k: row[k] for k in row if k != "count"}
                for row in self.exchange.limits.describe(r.ip, r.account, r.now_ms)
                if row["rateLimitType"] == "ORDERS"
            ],
        )

    def account(self, version: str, request: Request) -> Body:
        """Return the account of one version."""
        return self.exchange.views.account(request.account, version)

    def risk(self, version: str, request: Request) -> Body:
        """Return the positions of one version."""
        symbol_text = request.params.get("symbol")
        return self.exchange.views.position_risk(request.account, symbol_text, version)

    def place(self, request: Request) -> Body:
        """Take one new order."""
        self.exchange.limits.add_orders(request.account, 1, 1, request.now_ms)
        order = self.exchange.trading.place(request.account, request.params, request.now_ms)
        return self.exchange.trading.placed_body(order, request.params, has_fills=True)

    def modify(self, request: Request) -> Body:
        """Amend one order."""
        self.exchange.limits.add_orders(request.account, 1, 1, request.now_ms)
        order = self.exchange.trading.modify(request.account, request.params, request.now_ms)
        return order.placed(True)

    def place_batch(self, request: Request) -> Body:
        """Take up to five orders; each gets its own answer or error, in request order."""
        rows = read_list(request.params.get("batchOrders"), "batchOrders")
        if not 0 < len(rows) <= BATCH_ORDERS_MAX:
            raise VenueError(-4082)
        self.exchange.limits.add_orders(request.account, len(rows), 1, request.now_ms)
        trading = self.exchange.trading

        def place_one(row: object) -> Body:
            params = {k: auth.text_of(v) for k, v in row.items()} if isinstance(row, dict) else {}
            order = trading.place(request.account, params, request.now_ms)
            return trading.placed_body(order, params, has_fills=True)

        return [or_error(place_one, row) for row in rows]

    def cancel_batch(self, request: Request) -> Body:
        """Cancel up to ten orders of one symbol."""
        name = "orderIdList" if "orderIdList" in request.params else "origClientOrderIdList"
        one = "orderId" if name == "orderIdList" else "origClientOrderId"
        rows = read_list(request.params.get(name), name)
        if not 0 < len(rows) <= BATCH_IDS_MAX:
            raise VenueError(-4082)

        def cancel_one(value: object) -> Body:
            params = {"symbol": symbol(request), one: auth.text_of(value)}
            order = self.exchange.trading.cancel(request.account, params, request.now_ms)
            return order.placed(True)

        return [or_error(cancel_one, row) for row in rows]

    def cancel_all(self, request: Request) -> Body:
        """Cancel every open order of a symbol."""
        self.exchange.trading.cancel_all(request.account, symbol(request), request.now_ms)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def handle(self, request: Request, overloaded: bool = False) -> Answer:
        """Answer one request; `overloaded` refuses it with -1008."""
        route = self.routes.get((request.method, request.path))
        limits = self.exchange.limits
        headers: dict[str, str] = {}
        try:
            if route is None:
                limits.add_weight(request.ip, 1, request.now_ms)
                return Answer(404, b'{"code":-1000,"msg":"Path not found."}', headers)
            self.read_params(request)
            weight = route.weight if isinstance(route.weight, int) else route.weight(request.params)
            limits.add_weight(request.ip, weight, request.now_ms)
            self.authorize(request, route)
            if overloaded:
                raise VenueError(-1008)
            body = route.call(request)
            if route.counts_order:
                ten, minute = limits.used_orders(request.account, request.now_ms)
                headers["X-MBX-ORDER-COUNT-10S"] = str(ten)
                headers["X-MBX-ORDER-COUNT-1M"] = str(minute)
            status = 200
        except VenueError as error:
            status, body = error.status, error.body()
        headers["X-MBX-USED-WEIGHT-1M"] = str(limits.used_weight(request.ip, request.now_ms))
        encoded = body.encode() if isinstance(body, str) else msgspec.json.encode(body)
        return Answer(status, encoded, headers)

    def read_params(self, request: Request) -> None:
        """Decode query and body; the query wins on duplicates."""
        request.params = auth.parse_form(request.body) | auth.parse_form(request.query)

    def authorize(self, request: Request, route: Route) -> None:
        """Judge key, signature and time.

        Raises:
            VenueError: -2014, -2015, -1102, -1022 or -1021.
        """
        if route.security == "none":
            return
        request.key = self.exchange.keys.find(request.api_key)
        if route.security == "signed":
            auth.check_signed_form(request.key, request.query, request.body)
            auth.check_time(request.params, request.now_ms)


def symbol(request: Request) -> str:
    """Return the mandatory symbol.

    Raises:
        VenueError: -1102.
    """
    text = request.params.get("symbol")
    if not text:
        raise VenueError(-1102, "symbol")
    return text


def depth_limit(params: dict[str, str]) -> int:
    """Return the depth limit, default 500.

    Raises:
        VenueError: -1102 or -1130 unless it is one of the documented ones.
    """
    limit = auth.parse_int(params.get("limit", "500"), "limit")
    if limit not in DEPTH_WEIGHTS:
        raise VenueError(-1130, "limit")
    return limit


def read_list(text: str | None, name: str) -> list[object]:
    """Return a JSON array parameter.

    Raises:
        VenueError: -1102 if it is missing, -1130 if it is no array.
    """
    if not text:
        raise VenueError(-1102, name)
    try:
        rows = read_json(text)
    except ValueError:
        raise VenueError(-1130, name) from None
    if not isinstance(rows, list):
        raise VenueError(-1130, name)
    return rows


def or_error(call: Callable[[Any], Body], row: object) -> Body:
    """Return a call's body, or the error object in its place."""
    try:
        return call(row)
    except VenueError as error:
        return error.body()
