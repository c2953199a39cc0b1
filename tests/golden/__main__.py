"""`python -m tests.golden`: add the golden files of this release that are missing."""

import json

from tests.golden.samples import FOLDER, current, read, written

for kind, data in written().items():
    where = FOLDER / f"{kind}-{current()[kind]}"
    if not where.exists():
        where.write_bytes(data)
        expected = json.dumps(read(kind, data), indent=1, ensure_ascii=False)
        where.with_suffix(".json").write_text(expected + "\n", encoding="utf-8")
        print("added", where.name)  # noqa: T201
