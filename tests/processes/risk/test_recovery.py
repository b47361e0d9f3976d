"""Killed anywhere: no order is sent twice, none is lost silently, no report is applied twice."""

import os
import random

import numpy as np
import pytest

from common.enums import (
    ExecType,
    OrderPending,
    OrderStatus,
    Reject,
    ReportKind,
    ReportSource,
    RequestKind,
)
from processes.risk import cycle, journal
from processes.risk.oms import ACTIVE, ACTIVE_COUNT, FILL_COUNT, OUT_COUNT, Oms, audit
from processes.risk.rehearsal import private_parts
from processes.risk.stage import RiskStage
from shm.cursors import count_offered, publish, release

from tests.processes.risk.rig import MS, Crash, Rig

E, S, P, K = ExecType, OrderStatus, OrderPending, RequestKind
NOT_DURABLE = ("query_count", "ts_query_ns")


def snapshot(oms: Oms, *others: str) -> dict[str, object]:
    """Return everything that the journal must bring back; `others`: but these fields of orders."""
    orders = {}
    for row in oms.orders[oms.orders["client_order_id"] != 0]:
        for name in (*NOT_DURABLE, *others):
            row[name] = 0
        orders[int(row["client_order_id"])] = row.tobytes()
    active = oms.lists[ACTIVE, : oms.words[ACTIVE_COUNT]]
    fills = oms.fills[oms.fills["exec_id"] != 0].copy()
    fills["round_id"] = 0
    positions = oms.positions.copy()
    for name in ("venue_position_steps", "ts_venue_position_ns", "venue_trade_count"):
        positions[name] = 0
    return {
        "orders": orders,
        "active": [int(oms.orders[row]["client_order_id"]) for row in active],
        "fills": fills.tolist(),
        "fill_count": int(oms.words[FILL_COUNT]),
        "positions": positions.tobytes(),
        "next_intent": oms.strategies[:, 2].tolist(),
        "buckets": oms.strategies[:, :2].tolist(),
        "base": oms.marks[:, 2:4].tolist(),
    }


def trade(rig: Rig, order: int, exec_id: int, qty: int = 1, **fields: int) -> None:
    """Let the stream tell a fill of an order."""
    values = {"order_status": S.PARTIALLY_FILLED, "source": ReportSource.STREAM}
    fill = {"exec_id": exec_id, "last_qty_steps": qty, "last_px_steps": 1_000}
    rig.gateway(order, E.TRADE, **values | fill | fields)


def busy_rig(folder) -> Rig:
    """Return a rig with orders in many states."""
    rig = Rig(folder).bring_up()
    filled, partial, canceled, replaced = (rig.open() for _ in range(4))
    trade(rig, filled, 1, 10, order_status=S.FILLED, cum_qty_steps=10)
    trade(rig, partial, 2, 4, cum_qty_steps=4)
    rig.cancel(canceled)
    rig.replace(replaced, 999, 12)
    rig.turn()
    rig.gateway(canceled, E.CANCELED, order_status=S.CANCELED)
    rig.turn()
    rig.new(side=-1, price_steps=1_002)
    rig.cancel(partial)
    rig.turn()
    rig.gateway(partial, E.CANCEL_REJECTED, reject=Reject.VENUE_UNKNOWN_ORDER)
    rig.turn()
    return rig


def test_state_after_recovery_is_the_state_before(tmp_path):
    rig = busy_rig(tmp_path)
    before = snapshot(rig.stage.oms)
    assert len(before["orders"]) == 5
    rig.crash()
    assert snapshot(rig.stage.oms) == before
    assert audit(rig.stage.oms) == 0


def test_state_of_a_random_run_comes_back_at_every_turn(tmp_path):
    rig = Rig(tmp_path, order_count_max=16).bring_up()
    world = random.Random(5)
    orders: list[int] = []
    for k in range(120):
        act(rig, world, orders, k)
        rig.turn()
        if k % 10 == 9:
            before = snapshot(rig.stage.oms, "order_sequence")  # the rings are new
            parts, _others = private_parts(
                copied_journal(rig, tmp_path, k), 2, 64, ring_epoch=k + 2
            )
            again = RiskStage(rig.config, rig.instruments, rig.limits, parts, rig.now_ns, 0)
            assert snapshot(again.oms, "order_sequence") == before


def copied_journal(rig: Rig, folder, k: int) -> journal.Journal:
    """Open a copy of the journal, so that the run can go on."""
    copy = folder / f"copy{k}"
    copy.mkdir(mode=0o700)
    path = copy / journal.FILE_NAME
    path.touch(0o600)
    path.write_bytes(rig.stage.journal.path.read_bytes())
    return journal.Journal(copy, rig.stage.journal.facts, "none")


def act(rig: Rig, world: random.Random, orders: list[int], k: int) -> None:
    """Let strategy or venue do something."""
    choice = world.random()
    rig.quote_books()
    order = world.choice(orders) if orders else 0
    if choice < 0.35 or not orders:
        orders.append(rig.new(side=world.choice([1, -1]), order_qty_steps=world.randint(1, 9)))
    elif choice < 0.5:
        rig.ack(order)
    elif choice < 0.65:
        trade(rig, order, k + 1, world.randint(1, 3), instrument_id=0)
    elif choice < 0.75:
        rig.cancel(order)
    elif choice < 0.8:
        rig.replace(order, world.randint(990, 1_010), world.randint(5, 20))
    elif choice < 0.9:
        end = world.choice([E.CANCELED, E.EXPIRED])
        rig.gateway(order, end, order_status=S.CANCELED if end == E.CANCELED else S.EXPIRED)
    elif choice < 0.95:
        rig.gateway(order, E.UNKNOWN, request_kind=world.choice([0, 1, 2, 3]))
    else:
        rig.rest(order, order_status=world.choice([0, 2, 3, 4, 5]), order_qty_steps=5)


# -- crashes inside a turn -----------------------------------------------------------------------


def crash_before_write(stage: RiskStage) -> None:
    raise Crash


def publish_orders(stage: RiskStage) -> None:
    counts = stage.batch.counts
    if counts[1]:
        count_offered(stage.ends.orders, counts[1])
        publish(stage.ends.orders)


def publish_reports(stage: RiskStage) -> None:
    cycle.publish_reports(stage.oms, stage.ends.reports, int(stage.words[OUT_COUNT]))


def release_inputs(stage: RiskStage, count: int) -> None:
    progress = stage.progress
    for consumer, end in list(zip(stage.consumers, (2, 5, 7), strict=True))[:count]:
        release(consumer.end, int(progress[end]))


def crash_after(steps: int):  # noqa: ANN201
    """Return a `_publish` that does the first steps of a turn's end and is killed then."""

    def publish_some(stage: RiskStage) -> None:
        if steps >= 1:
            publish_orders(stage)
        if steps >= 2:
            publish_reports(stage)
        if steps >= 3:
            release_inputs(stage, steps - 2)
        raise Crash

    return publish_some


CRASHES = {
    "before_write": ("_write_journal", lambda stage, now_ns: crash_before_write(stage)),
    **{f"after_{steps}": ("_publish", crash_after(steps)) for steps in range(6)},
}


def crash_in_turn(rig: Rig, where: str) -> None:
    """Take one turn that is killed at a boundary, and start again."""
    name, broken = CRASHES[where]
    setattr(rig.stage, name, lambda *args: broken(rig.stage, *args))
    rig.now_ns += MS
    with pytest.raises(Crash):
        rig.stage.do_work(rig.now_ns)
    rig.crash()


@pytest.mark.parametrize("where", CRASHES)
def test_a_kill_at_any_boundary_sends_once_or_says_so(tmp_path, where):
    """New, replace, cancel and fills in one turn, killed at each boundary."""
    rig = Rig(tmp_path).bring_up()
    resting, to_cancel, to_fill = rig.open(), rig.open(), rig.open()
    rig.sent.clear()
    rig.told.clear()
    order = rig.new()
    rig.replace(resting, 999, 12)
    rig.cancel(to_cancel)
    trade(rig, to_fill, 1, 4, cum_qty_steps=4)
    crash_in_turn(rig, where)
    rig.turn(10 * MS, 5)
    news = [kind for kind in rig.kinds() if kind[0] == K.NEW]
    replaces = [kind for kind in rig.kinds() if kind[0] == K.REPLACE]
    assert rig.row(to_fill)["cum_qty_steps"] == 4
    assert rig.stage.oms.positions["position_steps"][0] == 4
    if where == "before_write":
        assert (news, replaces) == ([], [])
        assert rig.rejects().count(Reject.NOT_READY) == 2  # taken again, and refused
    elif where == "after_0":  # in the journal, and not in the ring: never sent, and told so
        assert (news, replaces) == ([], [])
        assert rig.row(order)["order_status"] == S.REJECTED
        assert rig.row(order)["reject"] == Reject.NOT_RECONCILED
        assert rig.row(resting)["order_pending"] & P.REPLACE == 0
    else:
        assert news == [(K.NEW, order)]
        assert replaces == [(K.REPLACE, resting)]
        assert rig.row(order)["order_status"] == S.PENDING_NEW
        assert rig.row(resting)["order_pending"] & P.REPLACE
    assert (K.CANCEL, to_cancel) in rig.kinds()  # a cancel is never lost
    assert rig.row(to_cancel)["order_pending"] & P.CANCEL
    assert (K.CANCEL, resting) in rig.kinds()  # after a restart all is canceled
    kinds = [int(one["kind"]) for one in rig.told]
    assert ReportKind.RESET in kinds


@pytest.mark.parametrize("where", CRASHES)
@pytest.mark.parametrize("again", CRASHES)
def test_a_second_kill_while_recovering_changes_nothing(tmp_path, where, again):
    rig = Rig(tmp_path).bring_up()
    resting = rig.open()
    rig.sent.clear()
    order = rig.new()
    trade(rig, resting, 1, 4, cum_qty_steps=4)
    crash_in_turn(rig, where)
    crash_in_turn(rig, again)
    rig.turn(10 * MS, 5)
    assert rig.kinds().count((K.NEW, order)) == (where not in ("before_write", "after_0"))
    assert rig.stage.oms.positions["position_steps"][0] == 4
    assert rig.kinds().count((K.CANCEL, resting)) >= 1


def test_a_kill_at_every_byte_of_the_write(tmp_path):
    """A frame that was cut anywhere is dropped, and its inputs are taken again."""
    whole = os.writev
    size = 0
    for cut in range(0, 700, 13):
        rig = Rig(tmp_path / str(cut)).bring_up()
        resting = rig.open()
        rig.sent.clear()
        order = rig.new()
        trade(rig, resting, 1, 4, cum_qty_steps=4)

        def cut_off(fd, buffers, cut=cut):
            data = b"".join(bytes(part) for part in buffers)
            os.write(fd, data[:cut])
            nonlocal size
            size = len(data)
            raise Crash

        os.writev = cut_off
        try:
            rig.now_ns += MS
            with pytest.raises(Crash):
                rig.stage.do_work(rig.now_ns)
        finally:
            os.writev = whole
        rig.crash()
        is_whole = cut >= size
        assert rig.stage.journal.torn_bytes == (0 if is_whole else cut)
        rig.turn(10 * MS, 5)
        assert (K.NEW, order) not in rig.kinds()
        assert rig.stage.oms.positions["position_steps"][0] == 4
    assert 500 < size < 2_000


def test_new_rings_make_all_in_flight_unknown(tmp_path):
    """After a restart of everything no answer can come any more."""
    rig = Rig(tmp_path).bring_up()
    resting, waiting = rig.open(), rig.new()
    rig.turn()
    rig.crash(new_rings=True)
    rig.turn(20 * MS)
    assert rig.row(waiting)["order_pending"] & P.UNKNOWN
    assert rig.row(resting)["order_pending"] == P.CANCEL
    assert not rig.stage.is_ready()
    rig.sockets()
    rig.open_orders = [{"client_order_id": waiting, "venue_order_id": 8, "order_qty_steps": 10}]
    rig.open_orders[0] |= {"price_steps": 1_000, "instrument_id": 0}
    rig.turn(10 * MS, 3)
    assert rig.row(waiting)["order_status"] == S.NEW


def test_a_doubt_from_other_rings_ends_by_the_answers(tmp_path):
    """A place in a ring that is gone says nothing about how far the gateway is in the new one."""
    rig = Rig(tmp_path).bring_up()
    for _ in range(40):
        done = rig.open()
        rig.gateway(done, E.CANCELED, order_status=S.CANCELED)
    lost = rig.new()
    rig.turn()
    for is_new in (True, False):  # the journal's frames are of the old rings in both starts
        rig.crash(new_rings=is_new)
    rig.sockets()
    for _ in range(40):
        rig.turn(100 * MS)
        for one in rig.asked:
            rig.rest(int(one["client_order_id"]), reject=Reject.VENUE_UNKNOWN_ORDER)
        rig.asked = []
    assert len(rig.sent) < 80
    assert rig.row(lost)["order_status"] == S.REJECTED


def test_fills_told_again_after_a_restart_are_known(tmp_path):
    rig = Rig(tmp_path).bring_up()
    order = rig.open()
    trade(rig, order, 1, 4, cum_qty_steps=4)
    rig.turn()
    rig.crash()
    trade(rig, order, 1, 4, cum_qty_steps=4)
    rig.turn()
    assert rig.stage.oms.positions["position_steps"][0] == 4


def test_the_strategy_gets_no_order_through_that_it_decided_before_the_reset(tmp_path):
    """Intents written before the RESET was read are refused, even if they are taken after READY."""
    rig = Rig(tmp_path).bring_up()
    rig.crash()
    rig.reads = False
    rig.quote_books()
    rig.turn(10 * MS, 20)  # reconciled, and the strategy has not read the RESET
    assert rig.stage.link.attachment.name == "RESETTING"
    rig.new()
    rig.reads = True
    rig.take()  # it reads the RESET in the turn in which it wrote that intent
    rig.turn(10 * MS, 2)
    assert rig.rejects() == [Reject.NOT_READY]
    assert rig.stage.link.attachment.name == "READY"
    rig.quote_books()
    order = rig.new()
    rig.turn()
    assert rig.kinds()[-1] == (K.NEW, order)


def test_orders_in_the_ring_that_the_journal_lacks_are_told(tmp_path, capsys):
    """A journal that lost its tail to a bad disk: said aloud; reconciliation finds the order."""
    rig = Rig(tmp_path).bring_up()
    rig.new()
    rig.turn()
    path = rig.stage.journal.path
    data = path.read_bytes()
    rig.stage.journal.close()
    frames, _end = journal.read_frames(path, memoryview(data))
    path.write_bytes(data[: frames[-1][0]])
    rig.crash()
    assert "journal_behind" in capsys.readouterr().err
    assert int(rig.stage.words[ACTIVE_COUNT]) == 0


def test_an_empty_bucket_fills_after_a_reboot(tmp_path):
    """CLOCK_MONOTONIC begins anew: the last order may seem to lie in the future for days."""
    rig = Rig(tmp_path)
    rig.limits["order_cost_ns"] = 100 * MS
    rig.limits["bucket_ns_max"] = 1_000 * MS
    rig.crash()
    rig.bring_up()
    for _ in range(12):
        rig.new()
    rig.turn()
    assert rig.rejects() == [Reject.ORDER_RATE] * 2
    rig.now_ns //= 2
    rig.crash(new_rings=True)
    rig.told.clear()
    rig.bring_up()
    rig.turn(1_000 * MS)
    rig.quote_books()
    rig.told.clear()
    rig.new()
    rig.turn()
    assert rig.rejects() == []


def test_own_ids_never_repeat_over_restarts(tmp_path):
    rig = Rig(tmp_path).bring_up()
    seen: list[int] = []
    for _ in range(3):
        order = rig.open()
        rig.sockets(False)
        rig.turn()
        rig.gateway(order, E.CANCELED, order_status=S.CANCELED)
        rig.turn()
        seen += [int(one["client_order_id"]) for one in rig.sent if one["strategy_id"] == 31]
        rig.sent.clear()
        rig.crash()
        rig.sockets()
        rig.turn(10 * MS, 30)
        rig.quote_books()
    assert len(seen) >= 3
    assert len(set(seen)) == len(seen)
    assert np.all(np.diff(seen) > 0)
