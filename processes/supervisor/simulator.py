"""The local venue's side of a paper run: its keys, its port, and the addresses the others use.

It binds a free port; the port file tells which. Keys are paper money's, made here, one file each.
"""

import os
import secrets
from pathlib import Path

from msgspec.structs import replace

from common.errors import UnavailableError
from processes.config import Config, check_key_file
from processes.runner import Context
from processes.venue.app import Venue, load_instruments
from processes.venue.config import AccountConfig, VenueConfig

KEY_BYTES = 32
PORT_FILE = "venue.port"
CA_FILE = "venue-ca.pem"


def prepare(config: Config, state_dir: Path) -> Config:
    """Return the config with the simulator's paths absolute; makes missing paper keys.

    Args:
        config: of a paper set-up.
        state_dir: exists; relative paths of the simulator lie in it.
    """
    venue = config.simulator
    assert venue is not None
    accounts = [_with_keys(account, state_dir) for account in venue.accounts]
    port_file = state_dir / (venue.port_file or PORT_FILE)
    ca_file = state_dir / (venue.ca_file or CA_FILE)
    for stale in (port_file, ca_file):
        stale.unlink(missing_ok=True)
    venue = replace(venue, accounts=accounts, port_file=str(port_file), ca_file=str(ca_file))
    own = accounts[0]
    connection = replace(
        config.venue,
        ca_file=str(ca_file) if venue.tls else "",
        api_key_file=own.api_key_file,
        secret_key_file=own.secret_key_file,
    )
    return replace(config, simulator=venue, venue=connection)


def _with_keys(account: AccountConfig, state_dir: Path) -> AccountConfig:
    changes = {}
    for field in ("api_key_file", "secret_key_file"):
        if text := getattr(account, field):
            path = state_dir / text
            if not check_key_file(path, field):
                write_secret(path, secrets.token_hex(KEY_BYTES))
            changes[field] = str(path)
    return replace(account, **changes)


def write_secret(path: Path, text: str) -> None:
    """Write a new file that only this user can read."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def build(context: Context) -> Venue:
    """Build the local venue's service; the entry of its process."""
    return build_alone(context.config)


def build_alone(config: Config) -> Venue:
    """Build the local venue from a prepared config."""
    assert config.simulator is not None
    listed = load_instruments(config.simulator, Path(config.instruments_file))
    return Venue(config.simulator, listed)


def resolve(config: Config) -> Config:
    """Fill in the addresses of a running simulator; called in each process after it is READY.

    Raises:
        UnavailableError: the port file is not there.
    """
    venue = config.simulator
    if venue is None:
        return config
    try:
        port = int(Path(venue.port_file).read_text())
    except (OSError, ValueError) as error:
        raise UnavailableError(f"{venue.port_file}: {error}, expected the venue's port") from None
    return replace(config, venue=with_addresses(config, venue, port))


def with_addresses(config: Config, venue: VenueConfig, port: int) -> object:
    """Return the [venue] table with the addresses of one host and port."""
    where = f"{venue.host}:{port}"
    web, socket = ("https", "wss") if venue.tls else ("http", "ws")
    return replace(
        config.venue,
        rest_url=f"{web}://{where}",
        public_url=f"{socket}://{where}/public",
        market_url=f"{socket}://{where}/market",
        private_url=f"{socket}://{where}/private",
        ws_api_url=f"{socket}://{where}/ws-fapi/v1",
    )
