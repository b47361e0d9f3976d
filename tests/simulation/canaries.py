"""Known bugs, planted on purpose: an auditor that does not notice them is worth nothing."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from processes.risk.index import new_index

from tests.simulation.network import Pipe
from tests.simulation.processes import Process

if TYPE_CHECKING:
    from tests.simulation.run import Run


def duplicate_fill(run: "Run") -> None:
    """Risk forgets which fills it has booked, and books a repeated one again."""
    watch = run.system.processes["risk"].on_turn

    def forget(process: Process) -> None:
        watch(process)
        if process.is_alive:
            by_fill = process.stage.oms.by_fill
            by_fill[:] = new_index(len(process.stage.oms.fills))

    run.system.processes["risk"].on_turn = forget


def deaf_to_kill(run: "Run") -> None:
    """Risk, gateway and rest look at a kill page that is not the one that was pressed."""
    pressed = run.system.kill_page
    run.system.kill_page = type(pressed)("another", pressed.words.copy(), None)
    run.kill_switch = pressed


def send_twice(run: "Run") -> None:
    """The gateway writes an order to its socket a second time."""
    open_pipe = run.system.network.open

    def open_twice(url: str, owner: Any) -> Pipe:
        pipe = open_pipe(url, owner)
        transmit = pipe._transmit
        pipe._transmit = lambda text: [transmit(text), transmit(text)]  # type: ignore
        return pipe

    run.system.network.open = open_twice  # type: ignore[method-assign]


def unwritten_journal(run: "Run") -> None:
    """Orders leave before they are in the journal."""
    build = run.system.processes["risk"].build

    def build_without() -> Any:
        stage = build()
        stage.journal.append = lambda header, parts: 0
        return stage

    run.system.processes["risk"].build = build_without


def swallowed_gap(run: "Run") -> None:
    """A lost depth event is hidden: the next one claims to follow the one before."""
    for streams in run.system.host.exchange.streams:
        depth_text, last = streams.depth_text, {}

        def chained(now_ms, first, previous, bids, asks, depth_text=depth_text, last=last, s=streams):  # fmt: skip # noqa: E501
            text = depth_text(now_ms, first, last.get("u", previous), bids, asks)
            if not s.drop_next:
                last["u"] = s.update_id
            return text

        streams.depth_text = chained


CANARIES: dict[str, tuple[Callable[["Run"], None], list[str], str, str]] = {
    # name: the bug, the faults that bring it out, the end, words of the verdict
    "duplicate_fill": (duplicate_fill, ["repeat_fills"], "stop", "position|fills"),
    "deaf_to_kill": (deaf_to_kill, [], "kill", "after the kill"),
    "send_twice": (send_twice, [], "stop", "and again over"),
    "unwritten_journal": (unwritten_journal, [], "stop", "the journal"),
    "swallowed_gap": (swallowed_gap, ["drop_depth"], "stop", "book"),
}
