"""A server as a process of its own, with a bundle that costs nothing; its port is printed."""

import sys
import time
from collections.abc import Sequence

from served_fakes import Colours

from headstart.serve import Limits, create_app, run_server
from headstart.serve.server import address_of, bind
from headstart.types import FloatArray


class Slow(Colours):
    """Takes its time for every batch."""

    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
        time.sleep(float(sys.argv[1]))
        return super().predict_prepared(rows)


def main() -> None:
    limits = Limits(
        max_queue=16, max_items=8, timeout_seconds=5, max_bytes=100_000, header_seconds=1
    )
    bound = bind("127.0.0.1", 0)
    app = create_app({"colours": Slow()}, limits)
    run_server(app, bound, on_started=lambda: print(address_of(bound), flush=True))


if __name__ == "__main__":
    main()
