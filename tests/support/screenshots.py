"""Take the pictures of the documentation: `python -m tests.support.screenshots DIR`.

admin.png is the administrators' queue, participant.png a participant's page, both with the sample data.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

from tests.support.chromium import chromium, served
from tests.support.sample import fill
from tests.support.web import CHEAP_HASH, PASSWORD, make_settings
from webadmin import create_app
from workspaces.store import Store

SIZE_MAX = 200 * 1000  # bytes of one picture
# name, who looks, at what, how high in pixels, what is opened first
PICTURES = (
    ("admin", "chief", "/admin/", 1110, "#r6-paths > summary"),
    ("participant", "alice", "/me", 1010, None),
)


def take(directory: Path) -> list[Path]:
    """Write the pictures to `directory`, which is made when it is not there."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    with tempfile.TemporaryDirectory() as home:
        settings = make_settings(Path(home))
        store = Store.open(settings.database)
        fill(store, CHEAP_HASH)
        with served(create_app(settings, store)) as url, chromium() as browser:
            for name, person, path, height, opened in PICTURES:
                page = browser.new_page(viewport={"width": 1240, "height": height})
                page.goto(f"{url}/login?next={path}")
                page.get_by_label("Name").fill(person)
                page.get_by_label("Password").fill(PASSWORD)
                page.get_by_role("button", name="Sign in", exact=True).click()
                page.wait_for_url(f"**{path}")
                if opened:
                    page.locator(opened).click()
                picture = directory / f"{name}.png"
                page.screenshot(path=picture)
                page.context.close()
                written.append(picture)
        store.close()
    return written


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    for picture in take(Path(sys.argv[1])):
        size = picture.stat().st_size
        print(f"{picture}  {size / 1000:.0f} kB")
        if size > SIZE_MAX:
            print(f"{picture} is larger than {SIZE_MAX // 1000} kB")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
