"""Scripts of the product with a safeguard taken out, to see that the tests notice. The product knows no such switch."""

import hashlib

from lso_core.store.server import Script, Server

FENCES = ("return {'fenced'}", "return {'moved'}")


def without_fences(server: Server) -> None:
    """Have this one connection commit whoever holds the lease and whatever the state has become."""
    lines = server._scripts["commit"].text.decode().splitlines(keepends=True)
    kept = [line for line in lines if not any(fence in line for fence in FENCES)]
    assert len(kept) == len(lines) - len(FENCES), "the commit's fences are not where they were"
    text = "".join(kept).encode()
    server._scripts["commit"] = Script(text, hashlib.sha1(text).hexdigest())
