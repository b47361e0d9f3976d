"""What a backtest writes: fills and states as CSV, counts as JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UsageError
from common.fixed_point import text_from_steps
from common.instruments import Instrument
from processes.results import Result

FILLS_HEADER = "ts_ns,symbol,side,price,qty,maker,fee,client_order_id\n"
STATES_HEADER = "ts_ns,symbol,position,balance,fee,trades,best_bid,best_ask\n"
FEE_DECIMALS = 12


def write_fills(path: Path, result: Result) -> None:
    """Write a row per fill, in the venue's time; maker is 1 or 0."""
    rows = [FILLS_HEADER]
    for fill in result.fills:
        instrument = result.instruments[fill["instrument_id"]]
        rows.append(
            f"{fill['ts_ns']},{instrument.symbol},{'buy' if fill['side'] > 0 else 'sell'},"
            f"{instrument.price_text(int(fill['price_steps']))},"
            f"{instrument.qty_text(int(fill['qty_steps']))},{fill['maker']},"
            f"{text_from_steps(int(fill['fee_e12']), FEE_DECIMALS)},{fill['client_order_id']}\n"
        )
    write_text(path, "".join(rows))


def write_states(path: Path, result: Result) -> None:
    """Write a row per strategy timer and instrument; a side without a level is empty."""
    rows = [STATES_HEADER]
    for state in result.states[result.states["is_timer"] == 1]:
        instrument = result.instruments[state["instrument_id"]]
        bid, ask = int(state["bid_price_steps"]), int(state["ask_price_steps"])
        rows.append(
            f"{state['ts_ns']},{instrument.symbol},"
            f"{instrument.qty_text(int(state['position_steps']))},"
            f"{money_text(int(state['balance_steps2']), instrument)},"
            f"{text_from_steps(int(state['fee_e12']), FEE_DECIMALS)},{state['trade_count']},"
            f"{instrument.price_text(bid) if bid else ''},"
            f"{instrument.price_text(ask) if ask else ''}\n"
        )
    write_text(path, "".join(rows))


def money_text(steps2: int, instrument: Instrument) -> str:
    """Write price x quantity in steps as quote currency, exactly."""
    decimals = instrument.price_grid_decimals + instrument.qty_grid_decimals
    return text_from_steps(steps2, decimals)


def summary_of(result: Result) -> dict[str, Any]:
    """Return the counts, and where each instrument ended."""
    last: dict[str, Any] = {}
    for instrument in result.instruments:
        fills = result.fills[result.fills["instrument_id"] == instrument.instrument_id]
        signed = fills["side"].astype(object) * fills["qty_steps"]  # Python's: no sum wraps
        values = signed * fills["price_steps"]
        is_known = instrument.symbol in last  # at another venue
        name = f"{instrument.venue}:{instrument.symbol}" if is_known else instrument.symbol
        last[name] = {
            "venue": instrument.venue,
            "fills": len(fills),
            "maker_fills": int(np.count_nonzero(fills["maker"])),
            "position": instrument.qty_text(sum(signed.tolist())),
            "balance": money_text(-sum(values.tolist()), instrument),
            "fee": text_from_steps(sum(fills["fee_e12"].tolist()), FEE_DECIMALS),
        }
    return {**result.counts, "instruments": last}


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write a summary as JSON."""
    write_text(path, json.dumps(summary, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        path.write_text(text)
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None
