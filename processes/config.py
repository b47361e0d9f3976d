"""The whole config file of a set-up, and its cross-checks: what `check` validates and `up` runs."""

import ipaddress
import os
import stat
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from common import instruments
from common.config import Base, load
from common.errors import ConfigError
from common.instruments import Instrument
from processes.backtest.config import BacktestConfig
from processes.book.config import BookConfig
from processes.feed.config import FeedConfig
from processes.gateway.config import GatewayConfig
from processes.recorder.config import RecorderConfig
from processes.rest.config import RestConfig
from processes.risk.config import RiskConfig
from processes.risk.limits import limit_table
from processes.strategy.config import StrategyConfig
from processes.supervisor.config import SupervisorConfig
from processes.venue.config import VenueConfig
from processes.wiring import SECRET_LAYOUTS, Plan, plan_of

URL_FIELDS = ("rest_url", "public_url", "market_url", "private_url", "ws_api_url")
KEY_FIELDS = ("api_key_file", "secret_key_file")
SECURE_SCHEMES = {"https", "wss"}
KEY_BYTES_MAX = 4_096
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]


class ConnectionConfig(Base, kw_only=True):
    """Config table [venue]: where to trade, and what.

    Attributes:
        name: section of the instruments file.
        symbols: traded, in the order of their instrument ids.
        rest_url ... ws_api_url: hosts and routes; empty with a [simulator], which fills them in.
        ca_file: PEM of the only authority to trust; empty: the system's.
        api_key_file, secret_key_file: 0600 or 0400; empty with a [simulator].
    """

    name: str
    symbols: Annotated[list[str], Meta(min_length=1, max_length=instruments.INSTRUMENTS_MAX)]
    rest_url: str = ""
    public_url: str = ""
    market_url: str = ""
    private_url: str = ""
    ws_api_url: str = ""
    ca_file: str = ""
    api_key_file: str = ""
    secret_key_file: str = ""


class Config(Base, kw_only=True):
    """A whole file.

    Attributes:
        instance: name of the run's segments; --instance replaces it.
        mode: "paper" trades on the local simulator only; "live" at a venue.
        state_dir: journal, kill latch, logs; ~ and {instance} are replaced; relative to the file.
        instruments_file: relative to the file.
        idle: how the hot processes wait; "auto" decides by the cores there are.
        simulator: the local venue; paper mode only.
        backtest: the simulated venue of `tickring backtest`; not looked at by a running system.
        recorder: what to keep of the run; without the table nothing is recorded.
        folder: where the file lies; set by the loader.
    """

    instance: Name
    mode: Literal["paper", "live"]
    state_dir: str
    instruments_file: str
    idle: Literal["auto", "spin", "yield", "park"] = "auto"
    venue: ConnectionConfig
    feed: FeedConfig = FeedConfig()
    book: BookConfig = BookConfig()
    strategy: StrategyConfig
    risk: RiskConfig
    gateway: GatewayConfig = GatewayConfig()
    rest: RestConfig = RestConfig()
    simulator: VenueConfig | None = None
    backtest: BacktestConfig | None = None
    recorder: RecorderConfig | None = None
    supervisor: SupervisorConfig = SupervisorConfig()
    folder: str = ""

    def __post_init__(self) -> None:
        if self.mode == "paper":
            self._check_paper()
        else:
            self._check_live()
        plan = self.plan
        known = {process.name for process in plan.processes}
        for name in self.supervisor.cores:
            if name not in known:
                raise ValueError(f"supervisor.cores.{name}: expected one of {sorted(known)}")
        keys = {ring.key for ring in plan.rings}
        for key in self.supervisor.ring_capacity:
            if key not in keys:
                raise ValueError(f"supervisor.ring_capacity.{key}: expected one of {sorted(keys)}")
        keys = {ring.key for ring in plan.rings if ring.layout not in SECRET_LAYOUTS}
        for key in self.recorder.rings if self.recorder else ():
            if key not in keys:
                raise ValueError(f"recorder.rings: {key!r}, expected some of {sorted(keys)}")

    @property
    def plan(self) -> Plan:
        """What the set-up runs."""
        return plan_of(self.simulator is not None, self.recorder is not None)

    def _check_paper(self) -> None:
        if self.simulator is None:
            raise ValueError('[simulator] is missing, expected it with mode = "paper"')
        for field in (*URL_FIELDS, *KEY_FIELDS, "ca_file"):
            if getattr(self.venue, field) and not self.folder:
                raise ValueError(
                    f'venue.{field} is set, expected it empty with mode = "paper":'
                    " fills and keys come from the local simulator"
                )
        missing = [name for name in self.venue.symbols if name not in self.simulator.symbols]
        if missing:
            raise ValueError(f"simulator.symbols lacks {', '.join(missing)}, expected all traded")
        if not self.simulator.accounts or not self.simulator.accounts[0].api_key_file:
            raise ValueError(
                "simulator.accounts: the first has no api_key_file, expected it: it is ours"
            )

    def _check_live(self) -> None:
        if self.simulator is not None:
            raise ValueError('[simulator] is set, expected it only with mode = "paper"')
        for field in URL_FIELDS:
            url = urlsplit(getattr(self.venue, field))
            if url.scheme not in SECURE_SCHEMES or not url.hostname:
                raise ValueError(
                    f"venue.{field} is {getattr(self.venue, field)!r}, expected https:// or wss://"
                )
        for field in KEY_FIELDS:
            if not getattr(self.venue, field):
                raise ValueError(f"venue.{field} is empty, expected the path of a private file")


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A file that passed every check that needs no network.

    Attributes:
        path: of the file.
        config: paths made absolute.
        state_dir: of the run.
        instruments: registered, in order.
        plan: what to run.
        notes: what is not wrong yet and will be when it runs, such as a key file not there.
    """

    path: Path
    config: Config
    state_dir: Path
    instruments: list[Instrument]
    plan: Plan
    notes: list[str]


def load_config(path: Path, instance: str = "") -> Loaded:
    """Read a file and check it against itself, the instruments file and the key files.

    Args:
        path: of the TOML file.
        instance: replaces the file's, if not empty.

    Raises:
        ConfigError: anything is wrong; names the path, what was found and what is expected.
    """
    config = load(path, Config)
    folder = path.resolve().parent
    if instance:
        config = _replace(path, config, instance=instance)
    state_dir = folder / os.path.expanduser(config.state_dir.replace("{instance}", config.instance))
    instruments_path = folder / os.path.expanduser(config.instruments_file)
    facts = instruments.load_facts(instruments_path)
    registered = instruments.register(
        config.venue.name, config.venue.symbols, facts, instruments_path
    )
    limit_table(config.risk, registered)
    notes = []
    venue = config.venue
    for field in (*KEY_FIELDS, "ca_file"):
        text = getattr(venue, field)
        if text:
            file = folder / os.path.expanduser(text)
            venue = msgspec.structs.replace(venue, **{field: str(file)})
            if field in KEY_FIELDS and not check_key_file(file, field):
                notes.append(f"venue.{field}: {file} is not there yet, expected before `up`")
    config = msgspec.structs.replace(
        config,
        folder=str(folder),
        state_dir=str(state_dir),
        instruments_file=str(instruments_path),
        venue=venue,
    )
    return Loaded(
        path=path,
        config=config,
        state_dir=state_dir,
        instruments=registered,
        plan=config.plan,
        notes=notes,
    )


def _replace(path: Path, config: Config, **changes: object) -> Config:
    """Change fields and check the types again, as if they stood in the file."""
    try:
        return msgspec.convert(msgspec.to_builtins(config) | changes, Config)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None


def check_key_file(path: Path, field: str) -> bool:
    """Return True if a key file is there and private, False if it is not there.

    Raises:
        ConfigError: it is not a small regular file of this user that nobody else can read.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(f"venue.{field}: {path}: {error.strerror}") from None
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"venue.{field}: {path} is not a regular file, expected one")
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"venue.{field}: {path}: owner is uid {status.st_uid}, expected ours")
    if mode & 0o077:
        raise ConfigError(f"venue.{field}: {path}: mode is {mode:04o}, expected 0600; chmod 600 it")
    if not 0 < status.st_size <= KEY_BYTES_MAX:
        raise ConfigError(
            f"venue.{field}: {path}: {status.st_size} bytes, expected 1 to {KEY_BYTES_MAX}"
        )
    return True


def is_main_network(config: Config) -> bool:
    """Return True unless every host is this machine or named as a test network of Binance."""
    return not all(_is_test_host(getattr(config.venue, field)) for field in URL_FIELDS)


def _is_test_host(url: str) -> bool:
    """Test networks: protocols of the venue's general information page, 2026."""
    if not url:
        return True
    host = urlsplit(url).hostname or ""
    if host.endswith((".binancefuture.com", ".binancefuture.com.")) or host.startswith("demo-"):
        return host.endswith((".binancefuture.com", ".binance.com"))
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
