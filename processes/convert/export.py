"""`tickring export RUN`: a recording as Parquet, or as hftbacktest's events."""

import json
from pathlib import Path

from common.errors import UsageError
from processes.convert.recorded import Recording


def run(which: str, *, parquet: Path | None, npz: Path | None, symbol: str, as_json: bool) -> int:
    """Export, and print the counts; return the exit code.

    Args:
        which: the run's folder or id.
        parquet: folder to make, None: no Parquet.
        npz: file to write, None: no events.
        symbol: whose events; "": the only one.

    Raises:
        UsageError: the options, the run or a destination is wrong.
        SegmentError, UnavailableError: the recording cannot be used.
    """
    if (parquet is None) == (npz is None):
        raise UsageError("export: expected --parquet DIR or --npz FILE, one of the two")
    recording = Recording(which)
    try:
        if parquet is not None:
            from processes.convert.parquet import export as export_parquet

            summary = export_parquet(recording, parquet)
        else:
            from processes.convert.npz import export as export_npz

            assert npz is not None
            summary = export_npz(recording, npz, symbol)
    finally:
        recording.close()
    if as_json:
        print(json.dumps(summary, indent=2))
        return 0
    width = max(map(len, summary))
    for name, value in summary.items():
        print(f"{name:<{width}}  {value}")
    return 0
