"""Every record that crosses a process border.

Market slots are 64 bytes and begin with the same 16 bytes (kind, flags, slot_count, instrument_id,
ts_recv_ns), so that any slot can be told from any other at any place of a ring. A message is one
header slot and `slot_count - 1` LEVELS slots behind it, published at once. Prices and quantities
are int64 counts of the instrument's grid step. Local instants (ts_..._ns) are CLOCK_MONOTONIC, the
venue's own (ts_exch_ns) is its wall clock. Fields marked `stamp` are measurements: a replay does
not compare them. Request and report records carry the hop vector of the market event that caused
them: ts_recv_ns and int32 saturating deltas.
"""

from common.layout import dtype_of, fingerprint, names, record

LEVELS_PER_SLOT = 3
LEVEL_WORD = 2  # int64 index of the first price in a LEVELS slot; price, qty alternate from here
SLOT_WORDS = 8  # int64 words of a market slot
FLAG_INVALID = 1  # BOOK: the book is not valid, it has no levels
FLAG_LAST = 2  # SNAPSHOT_END: the venue's whole answer has been written
TURN_INPUTS_MAX = 6
LISTEN_KEY_BYTES_MAX = 96

_SLOT = (
    (0, "kind", "u1", "MarketKind"),
    (1, "flags", "u1", "FLAG_ bits"),
    (2, "slot_count", "<u2", "slots of this message, header included; 0 in a LEVELS slot"),
    (4, "instrument_id", "<i4", "index into INSTRUMENT[]; -1 all"),
    (8, "ts_recv_ns", "<i8", "stamp; bytes left the socket"),
)

GAP = record(
    "GAP", 64, "the producer of the ring",
    *_SLOT,
    (16, "first_lost", "<i8", "first lost: offered number, or update id if reason is SEQUENCE"),
    (24, "last_lost", "<i8", "last lost, of the same kind"),
    (32, "reason", "<i8", "GapReason"),
    (40, "ts_pub_ns", "<i8", "stamp; record published"),
    (48, "reserved", "16u1", "zero"),
)  # fmt: skip

DEPTH = record(
    "DEPTH", 64, "feed (DIFF_BEGIN), rest (SNAPSHOT_BEGIN, SNAPSHOT_END)",
    *_SLOT,
    (16, "ts_exch_ns", "<i8", "venue's matching engine time"),
    (24, "first_update_id", "<i8", "first id covered (U); snapshot: request_id it answers"),
    (32, "last_update_id", "<i8", "last id covered (u); snapshot: lastUpdateId"),
    (40, "previous_update_id", "<i8", "last id of the event before (pu); snapshot: 0"),
    (48, "bid_count", "<i4", "bid levels that follow in LEVELS slots, as the venue lists them"),
    (52, "ask_count", "<i4", "ask levels, behind the bids"),
    (56, "recv_to_pub_ns", "<i4", "stamp; record published minus ts_recv_ns"),
    (60, "reserved", "4u1", "zero"),
)  # fmt: skip

LEVELS = record(
    "LEVELS", 64, "the writer of the header slot before it",
    *_SLOT,
    (16, "price_0_steps", "<i8", "first level"),
    (24, "qty_0_steps", "<i8", "total quantity at the price; 0 removes it"),
    (32, "price_1_steps", "<i8", "second level, unused ones are 0"),
    (40, "qty_1_steps", "<i8", "quantity"),
    (48, "price_2_steps", "<i8", "third level"),
    (56, "qty_2_steps", "<i8", "quantity"),
)  # fmt: skip

TRADE = record(
    "TRADE", 64, "feed (TRADE, AGG_TRADE), passed on by book",
    *_SLOT,
    (16, "ts_exch_ns", "<i8", "trade time"),
    (24, "price_steps", "<i8", "price"),
    (32, "qty_steps", "<i8", "quantity"),
    (40, "trade_id", "<i8", "venue's trade id, or aggregate trade id"),
    (48, "aggressor_side", "i1", "Side of the taker"),
    (49, "reserved", "3u1", "zero"),
    (52, "trade_count", "<i4", "raw trades in it: 1, or last - first + 1 of an aggregate"),
    (56, "recv_to_pub_ns", "<i4", "stamp; record published minus ts_recv_ns"),
    (60, "reserved_2", "4u1", "zero"),
)  # fmt: skip

BBO = record(
    "BBO", 64, "feed",
    *_SLOT,
    (16, "ts_exch_ns", "<i8", "venue's matching engine time"),
    (24, "update_id", "<i8", "order book update id (u)"),
    (32, "bid_price_steps", "<i8", "best bid"),
    (40, "bid_qty_steps", "<i8", "quantity at it"),
    (48, "ask_price_steps", "<i8", "best ask"),
    (56, "ask_qty_steps", "<i8", "quantity at it"),
)  # fmt: skip

BOOK = record(
    "BOOK", 64, "book",
    *_SLOT,
    (16, "ts_exch_ns", "<i8", "of the last applied depth event"),
    (24, "last_update_id", "<i8", "of the last applied depth event"),
    (32, "bid_count", "<i2", "bid levels that follow in LEVELS slots, best first"),
    (34, "ask_count", "<i2", "ask levels, behind the bids, best first"),
    (36, "recv_to_book_ns", "<i4", "stamp; ts_pub_ns minus ts_recv_ns"),
    (40, "ts_pub_ns", "<i8", "stamp; record published"),
    (48, "input_sequence", "<i8", "sequence in the market ring of the event that caused it"),
    (56, "conflated_count", "<i8", "states of this instrument skipped so far: ring was full"),
)  # fmt: skip

MARK = record(
    "MARK", 64, "feed",
    *_SLOT,
    (16, "ts_exch_ns", "<i8", "event time"),
    (24, "mark_price_e8", "<i8", "mark price, 1e-8 quote"),
    (32, "index_price_e8", "<i8", "index price, 1e-8 quote"),
    (40, "funding_rate_e8", "<i8", "rate of the next funding, 1e-8"),
    (48, "ts_next_funding_ns", "<i8", "venue's wall clock"),
    (56, "recv_to_pub_ns", "<i4", "stamp; record published minus ts_recv_ns"),
    (60, "reserved", "4u1", "zero"),
)  # fmt: skip

LIQUIDATION = record(
    "LIQUIDATION", 64, "feed",
    *_SLOT,
    (16, "ts_exch_ns", "<i8", "trade time"),
    (24, "price_steps", "<i8", "price of the liquidation order"),
    (32, "qty_steps", "<i8", "quantity of the liquidation order"),
    (40, "cum_qty_steps", "<i8", "filled so far"),
    (48, "side", "i1", "Side of the liquidation order: ASK closes a long"),
    (49, "reserved", "7u1", "zero"),
    (56, "recv_to_pub_ns", "<i4", "stamp; record published minus ts_recv_ns"),
    (60, "reserved_2", "4u1", "zero"),
)  # fmt: skip

CLOCK = record(
    "CLOCK", 64, "feed, once per second",
    *_SLOT,
    (16, "ts_mono_ns", "<i8", "stamp; CLOCK_MONOTONIC"),
    (24, "ts_wall_ns", "<i8", "stamp; CLOCK_REALTIME of the same instant"),
    (32, "boot_id", "16u1", "stamp; kernel boot id"),
    (48, "reserved", "16u1", "zero"),
)  # fmt: skip

CONTROL = record(
    "CONTROL", 64, "supervisor",
    *_SLOT,
    (16, "command", "<i8", "1 pause, 2 resume, 3 set parameter"),
    (24, "parameter_index", "<i8", "field index of the strategy's parameter record"),
    (32, "value_bits", "<i8", "the new value's 8 bytes"),
    (40, "reserved", "24u1", "zero"),
)  # fmt: skip

MARKET_SLOTS = (
    "GAP", "DEPTH", "LEVELS", "TRADE", "BBO", "BOOK", "MARK", "LIQUIDATION", "CLOCK", "CONTROL",
)  # fmt: skip

BBO_CELL = record(
    "BBO_CELL", 64, "book",
    (0, "instrument_id", "<i4", "index into INSTRUMENT[]"),
    (4, "valid", "<i4", "1 if the book is valid, else 0 and no prices"),
    (8, "ts_recv_ns", "<i8", "stamp; of the last applied event"),
    (16, "last_update_id", "<i8", "of the last applied event"),
    (24, "bid_price_steps", "<i8", "best bid"),
    (32, "bid_qty_steps", "<i8", "quantity at it"),
    (40, "ask_price_steps", "<i8", "best ask"),
    (48, "ask_qty_steps", "<i8", "quantity at it"),
    (56, "ts_pub_ns", "<i8", "stamp; cell written"),
)  # fmt: skip

ORDER_REQUEST = record(
    "ORDER_REQUEST", 128, "strategy (ring intent), risk (ring order), gateway (ring fallback)",
    (0, "kind", "u1", "RequestKind"),
    (1, "side", "i1", "Side"),
    (2, "order_type", "u1", "OrderType"),
    (3, "time_in_force", "u1", "TimeInForce"),
    (4, "reduce_only", "u1", "1: may only shrink the position"),
    (5, "strategy_id", "u1", "index of the strategy in the config"),
    (6, "reserved", "2u1", "zero"),
    (8, "instrument_id", "<i4", "index into INSTRUMENT[]; -1 with CANCEL_ALL: every one"),
    (12, "order_slot", "<i4", "the strategy's own slot of the order, for its reports"),
    (16, "client_order_id", "<i8", "id of this request; of NEW also the order's id"),
    (24, "orig_client_order_id", "<i8", "REPLACE, CANCEL: the order meant; else 0"),
    (32, "intent_sequence", "<i8", "0-based count of this strategy's intents in this session"),
    (40, "price_steps", "<i8", "limit price; MARKET: 0"),
    (48, "order_qty_steps", "<i8", "asked quantity; REPLACE: the new total"),
    (56, "ts_exch_ns", "<i8", "venue's time of the market event that caused it"),
    (64, "ts_recv_ns", "<i8", "stamp; received, of that event"),
    (72, "recv_to_book_ns", "<i4", "stamp; hop delta"),
    (76, "book_to_strategy_ns", "<i4", "stamp; hop delta"),
    (80, "strategy_to_risk_ns", "<i4", "stamp; hop delta"),
    (84, "risk_to_sent_ns", "<i4", "stamp; hop delta"),
    (88, "ts_pub_ns", "<i8", "stamp; published by the last writer"),
    (96, "venue_order_id", "<i8", "0 until known"),
    (104, "book_sequence", "<i8", "sequence in the book ring of the event that caused it"),
    (112, "reserved_2", "16u1", "zero"),
)  # fmt: skip

REPORT = record(
    "REPORT", 256, "gateway, rest (to risk), risk (to strategy)",
    (0, "kind", "u1", "ReportKind"),
    (1, "exec_type", "u1", "ExecType: what happened"),
    (2, "order_status", "u1", "OrderStatus: state now, as far as the writer knows"),
    (3, "order_pending", "u1", "OrderPending bits, from risk"),
    (4, "side", "i1", "Side"),
    (5, "liquidity_side", "u1", "LiquiditySide of a fill, else 0"),
    (6, "source", "u1", "ReportSource"),
    (7, "strategy_id", "u1", "index of the strategy in the config; 255 not ours"),
    (8, "instrument_id", "<i4", "index into INSTRUMENT[]; -1 none"),
    (12, "reject", "<i4", "Reject, 0 if none"),
    (16, "client_order_id", "<i8", "the order; 0 not ours"),
    (24, "request_client_order_id", "<i8", "the request this answers; 0 unasked"),
    (32, "venue_order_id", "<i8", "theirs"),
    (40, "exec_id", "<i8", "venue's trade id of a fill, else 0"),
    (48, "price_steps", "<i8", "order's limit price"),
    (56, "order_qty_steps", "<i8", "asked"),
    (64, "cum_qty_steps", "<i8", "filled so far"),
    (72, "leaves_qty_steps", "<i8", "open; 0 when terminal"),
    (80, "last_qty_steps", "<i8", "this fill"),
    (88, "last_px_steps", "<i8", "this fill's price"),
    (96, "fee_e8", "<i8", "this fill's commission, 1e-8 quote; negative is a rebate"),
    (104, "position_steps", "<i8", "signed; POSITION: the writer's; from risk: after this report"),
    (112, "amount_e8", "<i8", "BALANCE: wallet; POSITION: entry price; 1e-8 quote"),
    (120, "ts_exch_ns", "<i8", "venue's time of the event"),
    (128, "venue_code", "<i4", "venue's error code, 0 if none"),
    (132, "request_kind", "u1", "RequestKind this answers, 0 unasked"),
    (133, "order_type", "u1", "OrderType"),
    (134, "time_in_force", "u1", "TimeInForce"),
    (135, "reduce_only", "u1", "1: reduce-only order"),
    (136, "order_slot", "<i4", "of the request, for the strategy"),
    (140, "sent_to_ack_ns", "<i4", "stamp; hop delta"),
    (144, "ts_recv_ns", "<i8", "stamp; received, of the market event that caused the order"),
    (152, "recv_to_book_ns", "<i4", "stamp; hop delta"),
    (156, "book_to_strategy_ns", "<i4", "stamp; hop delta"),
    (160, "strategy_to_risk_ns", "<i4", "stamp; hop delta"),
    (164, "risk_to_sent_ns", "<i4", "stamp; hop delta"),
    (168, "ts_report_recv_ns", "<i8", "stamp; this report's bytes left our socket"),
    (176, "ts_pub_ns", "<i8", "stamp; published by the last writer"),
    (184, "request_id", "<i8", "reconcile or query round this belongs to, 0 none"),
    (192, "intent_sequence", "<i8", "of the request"),
    (200, "reserved", "56u1", "zero"),
)  # fmt: skip

ORDER = record(
    "ORDER", 256, "risk",
    (0, "client_order_id", "<i8", "ours; 0: row is free"),
    (8, "venue_order_id", "<i8", "theirs; 0 until known"),
    (16, "price_steps", "<i8", "limit price now"),
    (24, "order_qty_steps", "<i8", "asked"),
    (32, "cum_qty_steps", "<i8", "sum of distinct fills"),
    (40, "leaves_qty_steps", "<i8", "open; 0 when terminal"),
    (48, "cum_notional_steps2", "<i8", "sum of fill price x quantity"),
    (56, "fee_e8", "<i8", "commissions paid, 1e-8 quote"),
    (64, "replace_price_steps", "<i8", "asked by the replace in flight"),
    (72, "replace_qty_steps", "<i8", "asked by the replace in flight, new total"),
    (80, "instrument_id", "<i4", "index into INSTRUMENT[]"),
    (84, "order_slot", "<i4", "the strategy's own slot"),
    (88, "side", "i1", "Side"),
    (89, "order_type", "u1", "OrderType"),
    (90, "time_in_force", "u1", "TimeInForce"),
    (91, "reduce_only", "u1", "1: reduce-only"),
    (92, "strategy_id", "u1", "index of the strategy; 255 not ours"),
    (93, "order_status", "u1", "OrderStatus"),
    (94, "order_pending", "u1", "OrderPending bits"),
    (95, "cancel_in_flight", "u1", "1: a cancel was sent and not answered"),
    (96, "venue_cum_qty_steps", "<i8", "highest cumulative the venue told"),
    (104, "ts_created_ns", "<i8", "stamp; accepted by risk"),
    (112, "ts_updated_ns", "<i8", "stamp; last change"),
    (120, "ts_sent_ns", "<i8", "stamp; last request to the gateway"),
    (128, "ts_query_ns", "<i8", "stamp; last query to rest"),
    (136, "intent_sequence", "<i8", "of the NEW intent"),
    (144, "ts_recv_ns", "<i8", "stamp; hop vector of the NEW intent"),
    (152, "recv_to_book_ns", "<i4", "stamp; hop delta"),
    (156, "book_to_strategy_ns", "<i4", "stamp; hop delta"),
    (160, "strategy_to_risk_ns", "<i4", "stamp; hop delta"),
    (164, "risk_to_sent_ns", "<i4", "stamp; hop delta"),
    (168, "sent_to_ack_ns", "<i4", "stamp; hop delta"),
    (172, "query_count", "<i4", "order queries asked since it became UNKNOWN"),
    (176, "reject", "<i8", "Reject of the order, 0 if none"),
    (184, "replace_client_order_id", "<i8", "id of the last replace, 0 none"),
    (192, "cancel_client_order_id", "<i8", "id of the last cancel sent, 0 none"),
    (200, "ts_cancel_ns", "<i8", "stamp; last cancel sent"),
    (208, "ts_missing_ns", "<i8", "stamp; first answer in a row that nothing was done, 0 none"),
    (216, "ts_replaced_exch_ns", "<i8", "venue's time of the last replace applied"),
    (224, "missing_count", "<i4", "answers in a row that the venue has not done what was asked"),
    (228, "cancel_count", "<i4", "cancels sent"),
    (232, "order_sequence", "<i8", "of the last NEW or REPLACE in risk's order ring"),
    (240, "venue_end", "u1", "terminal OrderStatus as the venue told it; 0: none, or REJECTED"),
    (241, "is_lost", "u1", "1: those answers were that there is no such order"),
    (242, "reserved_2", "14u1", "zero"),
)  # fmt: skip

POSITION = record(
    "POSITION", 128, "risk",
    (0, "instrument_id", "<i4", "index into INSTRUMENT[]"),
    (4, "fill_count", "<i4", "fills booked in this session"),
    (8, "position_steps", "<i8", "base + signed sum of all orders' cum_qty_steps"),
    (16, "base_position_steps", "<i8", "the venue's position when the session began"),
    (24, "retired_steps", "<i8", "signed cum_qty_steps of orders whose rows were freed"),
    (32, "open_bid_qty_steps", "<i8", "open + in doubt on the bid side"),
    (40, "open_ask_qty_steps", "<i8", "open + in doubt on the ask side"),
    (48, "cost_steps2", "<i8", "signed price x quantity of the open position"),
    (56, "realized_pnl_steps2", "<i8", "before fees"),
    (64, "fee_e8", "<i8", "commissions paid, 1e-8 quote"),
    (72, "venue_position_steps", "<i8", "last told by the venue's account"),
    (80, "ts_venue_position_ns", "<i8", "stamp; when it was told, 0 never"),
    (88, "venue_trade_count", "<i8", "account trades compared with our fills"),
    (96, "mismatch_count", "<i8", "account trades that we had not booked, or booked otherwise"),
    (104, "funding_e8", "<i8", "funding paid, 1e-8 quote"),
    (112, "reserved", "16u1", "zero"),
)  # fmt: skip

REST_REQUEST = record(
    "REST_REQUEST", 64, "book (SNAPSHOT), risk (others)",
    (0, "kind", "u1", "RestKind"),
    (1, "reserved", "3u1", "zero"),
    (4, "instrument_id", "<i4", "index into INSTRUMENT[]; -1 all"),
    (8, "request_id", "<i8", "echoed in every answer"),
    (16, "client_order_id", "<i8", "ORDER_QUERY: the order"),
    (24, "venue_order_id", "<i8", "0 if unknown"),
    (32, "ts_pub_ns", "<i8", "stamp; record published"),
    (40, "attempt", "<i8", "0 at first; the answer may be delayed by it"),
    (48, "trade_id_from", "<i8", "RECONCILE: first account trade id wanted, 0 all of the session"),
    (56, "ts_session_ns", "<i8", "RECONCILE: venue's wall clock when the session began"),
)  # fmt: skip

SESSION = record(
    "SESSION", 192, "rest",
    (0, "kind", "u1", "SessionKind"),
    (1, "reserved", "7u1", "zero"),
    (8, "ts_pub_ns", "<i8", "stamp; record published"),
    (16, "offset_ns", "<i8", "CLOCK_OFFSET: venue wall clock minus ours, mid round trip"),
    (24, "round_trip_ns", "<i8", "CLOCK_OFFSET: of the measurement"),
    (32, "listen_key_bytes", "<i8", "LISTEN_KEY: length"),
    (40, "listen_key", "96u1", "LISTEN_KEY: ASCII"),
    (136, "reserved_2", "56u1", "zero"),
)  # fmt: skip

TURN = record(
    "TURN", 128, "strategy",
    (0, "turn", "<i8", "0-based count of turns in this session; the record's own sequence"),
    (8, "now_ns", "<i8", "clock given to the kernel"),
    (16, "state_hash", "<i8", "of the state block after the turn; 0 if not computed"),
    (24, "log_hash", "<i8", "of this turn and all before: kinds, clocks, sequences taken"),
    (32, "first_sequence", "6<i8", "per input ring, in polling order"),
    (80, "record_count", "6<i4", "slots taken, per input ring"),
    (104, "intent_count", "<i4", "intents written in this turn"),
    (108, "kind", "u1", "TurnKind"),
    (109, "input_count", "u1", "inputs used above"),
    (110, "reserved", "18u1", "zero"),
)  # fmt: skip

INSTRUMENT = record(
    "INSTRUMENT", 128, "supervisor",
    (0, "instrument_id", "<i4", "index of this row"),
    (4, "price_grid_decimals", "<i4", "one price step is 10^-this"),
    (8, "qty_grid_decimals", "<i4", "one quantity step is 10^-this"),
    (12, "symbol", "24u1", "venue text, ASCII, zero-filled"),
    (36, "reserved", "4u1", "zero"),
    (40, "tick_size_steps", "<i8", "filter: price is a multiple"),
    (48, "lot_size_steps", "<i8", "filter: quantity is a multiple"),
    (56, "min_notional_steps2", "<i8", "filter: least price x quantity, unless reduce-only"),
    (64, "max_qty_steps", "<i8", "filter: largest quantity"),
    (72, "reserved_2", "56u1", "zero"),
)  # fmt: skip

LAYOUTS = {name: dtype_of(name) for name in names() if name in globals()}
MARKET_FINGERPRINT = fingerprint(*MARKET_SLOTS)
